//! `auth/…`: browser sessions, tokens, the PIN.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use axum::{
    Extension,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use ota_api::auth::{
    CreateSessionRequest, CreateTokenRequest, CreatedToken, Done, RevokeTokenQuery, SessionInfo,
    SetPinRequest, TokenInfo, TokenList,
};
use ota_api::text;
use ota_core::{
    Timestamp,
    ports::{Role, TokenRecord},
};
use utoipa_axum::routes;

use crate::{
    address::Peer,
    app::{App, blocking},
    auth::{COOKIE, Caller, Credential, Proof, credential, new_token, random_hex},
    extract::{Answer, Json, Params},
    guard::{Access, Rule},
    pin::hash_pin,
    router::Routes,
    status::{Refusal, Transport},
};

pub(crate) fn routes() -> Routes {
    let log_in = Rule { access: Access::Open, action: Some("auth.session.create") };
    Routes::new()
        .add(log_in, routes!(create_session))
        .read(Role::Viewer, routes!(session))
        .change(Role::Viewer, "auth.session.end", routes!(end_session))
        .read(Role::Admin, routes!(tokens))
        .change(Role::Admin, "auth.token.create", routes!(create_token))
        .change(Role::Admin, "auth.token.revoke", routes!(revoke_token))
        .change(Role::Admin, "auth.pin.set", routes!(set_pin))
}

/// Logs a browser in: takes a token, gives a cookie.
#[utoipa::path(post, path = "/auth/session", tag = "auth", request_body = CreateSessionRequest, responses(
    (status = 200, body = SessionInfo), (status = 401, description = "The token does not hold")))]
async fn create_session(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Json(body): Json<CreateSessionRequest>,
) -> Result<Response, Refusal> {
    const BAD_TOKEN: Transport = Transport::Unauthorized("the token is unknown, expired or revoked");
    let (digest, record) = app.auth.token(body.token.expose()).await?.ok_or(BAD_TOKEN)?;
    let cookie = random_hex().ok_or_else(|| Refusal::internal("no randomness"))?;
    let (keeper, opened) = (app.clone(), cookie.clone());
    blocking(move || keeper.sessions.add(&opened, digest)).await?;
    let limits = app.config.sessions;
    let secure = if peer.secure { "; Secure" } else { "" };
    let header = format!(
        "{COOKIE}={cookie}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}{secure}",
        limits.absolute.as_secs()
    );
    let ends = app.clock.wall() + limits.absolute;
    let ends = record.expires.map_or(ends, |expires| expires.min(ends));
    let info = SessionInfo {
        name: record.name.clone(),
        role: record.role.into(),
        expires_at: Some(text::time(ends)),
        idle_seconds: Some(limits.idle.as_secs()),
    };
    let mut response = Answer::noted(info, None, Some(format!("with token {}", record.name))).into_response();
    let header = HeaderValue::from_str(&header).map_err(|error| Refusal::internal(error.to_string()))?;
    response.headers_mut().insert(header::SET_COOKIE, header);
    Ok(response)
}

/// Who one is.
#[utoipa::path(get, path = "/auth/session", tag = "auth", responses((status = 200, body = SessionInfo)))]
async fn session(State(app): State<App>, caller: Caller) -> Result<Answer<SessionInfo>, Refusal> {
    let Some(digest) = caller.proof.token() else {
        let role = caller.role.ok_or_else(|| Refusal::internal("a caller without a role"))?;
        let info = SessionInfo { name: caller.name, role: role.into(), expires_at: None, idle_seconds: None };
        return Ok(Answer::new(info));
    };
    let record = app.auth.find(digest).await?.ok_or(Transport::Unauthorized("the token has ended"))?;
    let (mut ends, mut idle_seconds) = (record.expires, None);
    if let Proof::Session { cookie, .. } = &caller.proof {
        let session_ends = app.sessions.left(cookie).map(|left| app.clock.wall() + left);
        // With its token, at the latest.
        ends = ends.into_iter().chain(session_ends).min();
        idle_seconds = Some(app.config.sessions.idle.as_secs());
    }
    Ok(Answer::new(SessionInfo {
        name: record.name,
        role: record.role.into(),
        expires_at: ends.map(text::time),
        idle_seconds,
    }))
}

/// Logs a browser out.
#[utoipa::path(delete, path = "/auth/session", tag = "auth", responses((status = 200, body = Done)))]
async fn end_session(State(app): State<App>, headers: HeaderMap) -> Result<Response, Refusal> {
    if let Credential::Cookie(cookie) = credential(&headers)? {
        let (keeper, ended) = (app.clone(), cookie.to_owned());
        blocking(move || keeper.sessions.end(&ended)).await??;
    }
    let mut response =
        Answer::new(Done { status: "logged_out".into(), message: "The session has ended".into() })
            .into_response();
    let gone = HeaderValue::from_static("ota_session=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0");
    response.headers_mut().insert(header::SET_COOKIE, gone);
    Ok(response)
}

/// All tokens that are not revoked, without their secrets.
#[utoipa::path(get, path = "/auth/tokens", tag = "auth", responses((status = 200, body = TokenList)))]
async fn tokens(State(app): State<App>) -> Result<Answer<TokenList>, Refusal> {
    let store = Arc::clone(&app.tokens);
    let records = blocking(move || store.list()).await??;
    Ok(Answer::new(TokenList { tokens: records.iter().map(TokenInfo::from).collect() }))
}

/// Makes a token. Its secret is shown this once.
#[utoipa::path(post, path = "/auth/tokens", tag = "auth", request_body = CreateTokenRequest, responses(
    (status = 201, body = CreatedToken), (status = 409, description = "OTA_014: the name is taken")))]
async fn create_token(
    State(app): State<App>,
    caller: Caller,
    Json(body): Json<CreateTokenRequest>,
) -> Result<Response, Refusal> {
    check_name(&body.name)?;
    let now = app.clock.wall();
    let record = TokenRecord {
        name: body.name.clone(),
        role: body.role.into(),
        created: now,
        expires: body.expires_in.map(|seconds| now + Duration::from_secs(seconds)),
        last_used: None,
    };
    let what = format!("{} as {}", record.name, record.role.as_str());
    app.auditor.intent(&caller, "auth.token.create", Some(what.clone())).await?;
    let fresh = new_token().ok_or_else(|| Refusal::internal("no randomness"))?;
    let (store, kept, digest) = (Arc::clone(&app.tokens), record.clone(), fresh.digest);
    blocking(move || store.add(&digest, &kept)).await??;
    let answer =
        Answer::noted(CreatedToken { token: fresh.secret, info: TokenInfo::from(&record) }, None, Some(what));
    let mut response = answer.into_response();
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

fn check_name(name: &str) -> Result<(), Refusal> {
    let fits = (1..=64).contains(&name.len())
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || b"._-".contains(&c));
    if fits { Ok(()) } else { Err(Refusal::field("$.name", "must be 1 to 64 characters A-Z a-z 0-9 . _ -")) }
}

/// Revokes a token; its sessions end with it. The last one of role admin stays: nobody could make another.
#[utoipa::path(delete, path = "/auth/tokens", tag = "auth", params(RevokeTokenQuery), responses(
    (status = 200, body = Done), (status = 400, description = "INVALID_REQUEST: it is the last admin token"),
    (status = 404, description = "No token has this name")))]
async fn revoke_token(
    State(app): State<App>,
    caller: Caller,
    Params(query): Params<RevokeTokenQuery>,
) -> Result<Answer<Done>, Refusal> {
    app.auditor.intent(&caller, "auth.token.revoke", Some(query.name.clone())).await?;
    let (keeper, name) = (app.clone(), query.name.clone());
    // Who is an admin by certificate stays one.
    let certified = caller.proof == Proof::Certificate;
    let revoked = blocking(move || {
        let _turn = keeper.revoking.lock().unwrap_or_else(PoisonError::into_inner);
        if !certified && is_last_admin(&keeper.tokens.list()?, &name, keeper.clock.wall()) {
            return Err(last_admin(&name));
        }
        Ok::<_, Refusal>(keeper.tokens.revoke(&name)?)
    })
    .await??;
    app.auth.forget();
    if !revoked {
        return Err(Transport::NotFound("no token has this name".into()).into());
    }
    let done = Done { status: "token_revoked".into(), message: format!("Token {} revoked", query.name) };
    Ok(Answer::noted(done, None, Some(query.name)))
}

/// Whether no admin token that holds is left without the one of this name.
fn is_last_admin(tokens: &[TokenRecord], name: &str, now: Timestamp) -> bool {
    let mut admins =
        tokens.iter().filter(|token| token.role == Role::Admin && token.expires.is_none_or(|end| now < end));
    admins.clone().any(|token| token.name == name) && admins.all(|token| token.name == name)
}

fn last_admin(name: &str) -> Refusal {
    let what = format!(
        "{name} is the last admin token that holds: make another one first, or revoke it on the device with \
         `ota-gatewayd token revoke`"
    );
    Refusal::field("query.name", what)
}

/// Sets the PIN; the present one is needed when one is set.
#[utoipa::path(put, path = "/auth/pin", tag = "auth", request_body = SetPinRequest, responses(
    (status = 200, body = Done), (status = 403, description = "FORBIDDEN, OTA_010"), (status = 429, description = "Locked")))]
async fn set_pin(
    State(app): State<App>,
    caller: Caller,
    Json(body): Json<SetPinRequest>,
) -> Result<Answer<Done>, Refusal> {
    let wanted = body.new_pin.expose().to_owned();
    let hash = blocking(move || hash_pin(&wanted, false))
        .await?
        .map_err(|error| Refusal::field("$.new_pin", error.to_string()))?;
    if app.pin.is_set().await? {
        app.pin.check(body.pin.as_ref().map(ota_api::auth::Secret::expose)).await?;
    }
    app.auditor.intent(&caller, "auth.pin.set", None).await?;
    app.pin.set(hash).await?;
    Ok(Answer::new(Done { status: "pin_set".into(), message: "The PIN is set".into() }))
}
