//! Which models there are, and that they be loaded or unloaded.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use outgrow_ir::Diagnostic;
use serde_json::json;

use super::guard::Incoming;
use super::{ModelPath, Shared, Site, answered, aside, body, json as answer};
use crate::protocol::State as ModelState;
use crate::protocol::{Kind, Rejected, parse_index, parse_load};

pub(super) async fn index(State(site): Shared, incoming: Incoming) -> Response {
    let index = async {
        let ready = parse_index(&body::whole(incoming).await?)?;
        let mut index = aside(move || Ok(site.models.index())).await?;
        index.retain(|entry| !ready || entry.state == ModelState::Ready);
        Ok(answer(StatusCode::OK, &index))
    };
    answered(index.await)
}

pub(super) async fn load(State(site): Shared, path: ModelPath, incoming: Incoming) -> Response {
    let load = async {
        let policy = parse_load(&body::whole(incoming).await?)?;
        refuse_at_the_end(&site)?;
        apart(move || site.models.load(&path.0, &policy)).await?;
        Ok(answer(StatusCode::OK, &json!({})))
    };
    answered(load.await)
}

pub(super) async fn unload(State(site): Shared, path: ModelPath, incoming: Incoming) -> Response {
    let unload = async {
        // What parameters there are concerns models that depend on others, of which there are none.
        parse_load(&body::whole(incoming).await?)?;
        refuse_at_the_end(&site)?;
        apart(move || site.models.unload(&path.0)).await?;
        Ok(answer(StatusCode::OK, &json!({})))
    };
    answered(unload.await)
}

/// Nothing is loaded or unloaded once the server drains.
pub(crate) fn refuse_at_the_end(site: &Site) -> Result<(), Rejected> {
    if site.is_ready() {
        return Ok(());
    }
    let problem = Diagnostic::new("serve.unavailable", "the server is about to end");
    let after = std::time::Duration::from_secs(1);
    Err(Rejected::new(Kind::Unavailable(after), problem.hint("ask another server")))
}

/// Work of seconds or minutes, on a thread that nobody else waits for. It goes on to its end also when the client goes.
pub(crate) async fn apart(
    work: impl FnOnce() -> Result<(), Rejected> + Send + 'static,
) -> Result<(), Rejected> {
    let (sender, done) = tokio::sync::oneshot::channel();
    let thread = std::thread::Builder::new().name("load".to_owned()).spawn(move || {
        let _ = sender.send(work());
    });
    let lost = |what: String| {
        let problem = Diagnostic::new("serve.threads", what);
        Rejected::new(Kind::Internal, problem.hint("see the limits on processes and memory"))
    };
    thread.map_err(|error| lost(format!("there is no thread to be had: {error}")))?;
    done.await.unwrap_or_else(|_| Err(lost("the work was broken off".to_owned())))
}
