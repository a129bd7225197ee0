//! What every page is made of: its head, its title, and cards. Text is escaped by `maud`, unless it is markup already.

use maud::{Markup, PreEscaped, html};

pub(super) fn card(title: &str, body: &Markup) -> Markup {
    html! { section { h2 { (title) } (body) } }
}

pub(super) fn wide_card(title: &str, body: &Markup) -> Markup {
    html! { section.wide { h2 { (title) } (body) } }
}

pub(super) fn header(name: &str, subtitle: &str) -> Markup {
    html! { header { h1 { (name) } p { (subtitle) } } }
}

/// The numbers at the top of a page: each with its name below it.
pub(super) fn tiles(tiles: &[(String, String)]) -> Markup {
    html! {
        dl.tiles {
            @for (i, (value, name)) in tiles.iter().enumerate() {
                div.tile.first[i == 0] { dd { (value) } dt { (name) } }
            }
        }
    }
}

/// A bar of this part of its cell, from 0 to 1.
pub(super) fn bar(class: Option<&str>, part: f64) -> Markup {
    html! { td.bar { span class=[class] style=(format!("width:{:.1}%", part * 100.0)) {} } }
}

pub(super) fn page(title: &str, body: &Markup) -> String {
    let page = html! {
        (PreEscaped("<!doctype html>\n"))
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " – Outgrow" }
                style { (PreEscaped(include_str!("page.css"))) (PreEscaped(include_str!("plot.css"))) }
            }
            body { main { (body) } }
        }
        (PreEscaped("\n"))
    };
    page.into_string()
}
