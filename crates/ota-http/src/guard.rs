//! Stands before every route: host and origin, who asks, whether they may; and records afterwards how it ended.

use std::panic::AssertUnwindSafe;

use axum::{
    extract::Request,
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use http::request::Parts;
use ota_core::{Sha256Digest, ports::Role};
use tracing::Instrument as _;

use crate::{
    address::{self, Peer},
    app::App,
    audit::Ended,
    auth::{Caller, Credential, Proof, credential},
    enter::{self, RequestId},
    status::{Refusal, Transport},
};

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Anybody, under any host name: the probes.
    Probe,
    /// Anybody: the dashboard's files, logging in.
    Open,
    /// Viewers, or anybody when `public_docs` is set.
    Docs,
    /// Viewers, or anybody when `public_metrics` is set.
    Metrics,
    /// Holders of this role or a higher one.
    Role(Role),
}

/// What the guard knows of a route.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    pub(crate) access: Access,
    /// Name in the audit; none for routes that change nothing.
    pub(crate) action: Option<&'static str>,
}

/// Lets a request through to its handler, or not.
///
/// What changes something runs as a task of its own, up to its record: the server drops the future of a request whose
/// client goes away, and with it everything behind the next await.
pub(crate) async fn guard(rule: Rule, request: Request, next: Next) -> Response {
    let Some(app) = request.extensions().get::<App>().cloned() else {
        return Refusal::internal("a request without the app").into_response();
    };
    let Some(action) = rule.action else {
        return admitted(&app, rule, request, next).await.1;
    };
    let keeper = app.clone();
    let task = async move {
        let (caller, response) = admitted(&keeper, rule, request, next).await;
        let ended = Ended::of(&response);
        keeper.auditor.outcome(&caller, action, ended).await;
        response
    };
    let recorded = app.tasks.spawn(task.in_current_span());
    recorded.await.unwrap_or_else(|error| Refusal::internal(error.to_string()).into_response())
}

/// The answer, and to whom. A panic of the handler is an answer, too: it has its record like any other.
async fn admitted(app: &App, rule: Rule, request: Request, next: Next) -> (Caller, Response) {
    let (mut parts, body) = request.into_parts();
    let mut caller = unknown(&parts);
    let response = match authorise(app, rule, &parts, &mut caller).await {
        Ok(()) => {
            parts.extensions.insert(caller.clone());
            let answered = AssertUnwindSafe(next.run(Request::from_parts(parts, body))).catch_unwind().await;
            answered.unwrap_or_else(enter::panicked)
        }
        Err(refusal) => refusal.into_response(),
    };
    (caller, response)
}

fn unknown(parts: &Parts) -> Caller {
    Caller {
        name: "anonymous".into(),
        role: None,
        address: parts.extensions.get::<Peer>().map(|peer| peer.address.ip().to_string()).unwrap_or_default(),
        request_id: parts.extensions.get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default(),
        proof: Proof::None,
    }
}

async fn authorise(app: &App, rule: Rule, parts: &Parts, caller: &mut Caller) -> Result<(), Refusal> {
    let needed = match rule.access {
        Access::Probe => return Ok(()),
        Access::Open => None,
        Access::Docs => (!app.config.public_docs).then_some(Role::Viewer),
        Access::Metrics => (!app.config.public_metrics).then_some(Role::Viewer),
        Access::Role(role) => Some(role),
    };
    address::check(&app.config, &parts.uri, &parts.headers)?;
    let Some(needed) = needed else { return Ok(()) };
    let role = authenticate(app, parts, caller).await?;
    caller.role = Some(role);
    if role < needed {
        let has = if caller.proof == Proof::Certificate { "the certificate" } else { "the token" };
        let what = format!("this needs the role {}, {has} has {}", needed.as_str(), role.as_str());
        return Err(Transport::Forbidden(what).into());
    }
    Ok(())
}

/// What the caller shows: a token or a session before the certificate of the connection, because they say it aloud.
async fn authenticate(app: &App, parts: &Parts, caller: &mut Caller) -> Result<Role, Refusal> {
    const NO_TOKEN: Transport = Transport::Unauthorized("a bearer token is needed");
    const BAD_TOKEN: Transport = Transport::Unauthorized("the token is unknown, expired or revoked");
    const NO_SESSION: Transport = Transport::Unauthorized("the session has ended; log in again");
    match credential(&parts.headers)? {
        Credential::None => {
            let peer = parts.extensions.get::<Peer>();
            let holder = peer.and_then(|peer| peer.certified.as_ref()).ok_or(NO_TOKEN)?;
            address::check_certified_request(&parts.method, &parts.headers)?;
            caller.name = format!("cert:{}", holder.name);
            caller.proof = Proof::Certificate;
            Ok(holder.role)
        }
        Credential::Bearer(token) => {
            let (digest, record) = app.auth.token(token).await?.ok_or(BAD_TOKEN)?;
            caller.name = record.name;
            caller.proof = Proof::Token(digest);
            Ok(record.role)
        }
        Credential::Cookie(cookie) => {
            let token = app.sessions.token(cookie).ok_or(NO_SESSION)?;
            let record = app.auth.find(token).await?.ok_or(NO_SESSION)?;
            address::check_cookie_request(&parts.method, &parts.headers)?;
            caller.name = format!("session:{}", record.name);
            caller.proof = Proof::Session { token, cookie: Sha256Digest::of(cookie.as_bytes()) };
            Ok(record.role)
        }
    }
}
