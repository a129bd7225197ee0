//! What every page is made of: its head, its title, and cards.

use super::format::escape;

pub(super) fn card(title: &str, body: &str) -> String {
    format!("<section><h2>{title}</h2>{body}</section>")
}

pub(super) fn wide_card(title: &str, body: &str) -> String {
    format!("<section class=\"wide\"><h2>{title}</h2>{body}</section>")
}

pub(super) fn header(name: &str, subtitle: &str) -> String {
    format!("<header><h1>{}</h1><p>{}</p></header>", escape(name), escape(subtitle))
}

pub(super) fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\">\
         <title>{} – Outgrow</title><style>{}{}</style></head>\n<body><main>{body}</main></body></html>\n",
        escape(title),
        include_str!("page.css"),
        include_str!("plot.css"),
    )
}
