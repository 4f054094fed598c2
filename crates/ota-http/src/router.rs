//! The routes: each declared once, with its role, under the four prefixes; and the document made from them.

use axum::{Router, extract::Request, middleware, middleware::Next};
use http::Method;
use ota_core::ports::Role;
use serde_json::json;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::{
    ComponentsBuilder, Content, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Response,
    ResponseBuilder,
    extensions::Extensions,
    path::{Operation, PathItem},
    schema::Schema,
    security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
};
use utoipa::{PartialSchema, ToSchema};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter, UtoipaMethodRouterExt};

use crate::{
    PREFIXES,
    app::App,
    enter,
    guard::{Access, Rule, guard},
    handlers,
};

/// A set of routes. There is no way to add one without saying who may use it.
pub(crate) struct Routes(OpenApiRouter<App>);

impl Routes {
    pub(crate) fn new() -> Self {
        Self(OpenApiRouter::with_openapi(OpenApiBuilder::new().build()))
    }

    /// A route that changes nothing.
    pub(crate) fn read(self, role: Role, route: UtoipaMethodRouter<App>) -> Self {
        self.add(Rule { access: Access::Role(role), action: None }, route)
    }

    /// A route that changes something; every call is audited as `action`.
    pub(crate) fn change(self, role: Role, action: &'static str, route: UtoipaMethodRouter<App>) -> Self {
        self.add(Rule { access: Access::Role(role), action: Some(action) }, route)
    }

    /// A route with another kind of access, or that is used before a role is known.
    pub(crate) fn add(self, rule: Rule, route: UtoipaMethodRouter<App>) -> Self {
        let (schemas, mut paths, methods) = route.map(|methods| {
            methods.route_layer(middleware::from_fn(move |request: Request, next: Next| {
                guard(rule, request, next)
            }))
        });
        for item in paths.paths.values_mut() {
            for (method, operation) in operations(item) {
                describe(operation, rule, &method);
            }
        }
        Self(self.0.routes((schemas, paths, methods)))
    }

    pub(crate) fn merge(self, other: Self) -> Self {
        Self(self.0.merge(other.0))
    }
}

/// The operations of a path.
pub(crate) fn operations(item: &mut PathItem) -> impl Iterator<Item = (Method, &mut Operation)> {
    [
        (Method::GET, item.get.as_mut()),
        (Method::PUT, item.put.as_mut()),
        (Method::POST, item.post.as_mut()),
        (Method::DELETE, item.delete.as_mut()),
    ]
    .into_iter()
    .filter_map(|(method, operation)| Some((method, operation?)))
}

/// Writes into the document what follows from the rule.
fn describe(operation: &mut Operation, rule: Rule, method: &Method) {
    let role = match rule.access {
        Access::Probe | Access::Open => "none",
        Access::Docs | Access::Metrics => Role::Viewer.as_str(),
        Access::Role(role) => role.as_str(),
    };
    let mut extensions = Extensions::builder().add("x-role", json!(role));
    if let Some(action) = rule.action {
        extensions = extensions.add("x-audit", json!(action));
    }
    operation.extensions = Some(extensions.build());
    let mut errors = vec![400, 500];
    if role == "none" {
        operation.security = Some(Vec::new());
    } else {
        let none: [&str; 0] = [];
        operation.security =
            Some(vec![SecurityRequirement::new("bearer", none), SecurityRequirement::new("session", none)]);
        errors.extend([401, 403, 503]);
    }
    if method != Method::GET {
        errors.extend([403, 408, 413, 415, 429, 503]);
    }
    for status in errors {
        operation.responses.responses.entry(status.to_string()).or_insert_with(|| envelope_response(status));
    }
    for (status, response) in &mut operation.responses.responses {
        let is_error = status.starts_with('4') || status.starts_with('5');
        if let (true, RefOr::T(response)) = (is_error, response)
            && response.content.is_empty()
        {
            response.content.insert("application/json".into(), envelope_content());
        }
    }
}

fn envelope_content() -> RefOr<Content> {
    let schema: RefOr<Schema> = Ref::from_schema_name("ErrorEnvelope").into();
    RefOr::T(Content::new(Some(schema)))
}

fn envelope_response(status: u16) -> RefOr<Response> {
    let what =
        http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or("Refused");
    RefOr::T(ResponseBuilder::new().description(what).build())
}

/// The routes of the API, relative to a prefix.
fn api() -> Routes {
    Routes::new()
        .merge(handlers::updates::routes())
        .merge(handlers::rollback::routes())
        .merge(handlers::upload::routes())
        .merge(handlers::jobs::routes())
        .merge(handlers::explain::routes())
        .merge(handlers::safety::routes())
        .merge(handlers::inhibitors::routes())
        .merge(handlers::settings::routes())
        .merge(handlers::system::routes())
        .merge(handlers::factory_reset::routes())
        .merge(handlers::snapshots::routes())
        .merge(handlers::events::routes())
        .merge(handlers::auth::routes())
        .merge(handlers::audit::routes())
}

/// Everything, without a state.
fn build() -> (Router<App>, OpenApi) {
    let (api, api_doc) = api().0.split_for_parts();
    let canonical = OpenApiRouter::with_openapi(api_doc);
    let mut all =
        OpenApiRouter::with_openapi(base()).merge(handlers::outside::routes().0).nest(PREFIXES[0], canonical);
    let doc = finish(all.to_openapi());
    let (mut router, _) = all.split_for_parts();
    for prefix in PREFIXES {
        router = router.nest(prefix, api.clone());
    }
    (router, doc)
}

/// The router, with its outermost layers.
pub(crate) fn router(app: &App) -> Router {
    let (router, _) = build();
    let outer = app.clone();
    router.with_state(app.clone()).layer(CatchPanicLayer::custom(enter::panicked)).layer(middleware::from_fn(
        move |request: Request, next: Next| enter::enter(outer.clone(), request, next),
    ))
}

/// The `OpenAPI` 3.1 document of everything the server answers, under the canonical prefix.
#[must_use]
pub fn openapi() -> OpenApi {
    build().1
}

fn base() -> OpenApi {
    let license =
        LicenseBuilder::new().name("MIT OR Apache-2.0").identifier(Some("MIT OR Apache-2.0")).build();
    let info = InfoBuilder::new()
        .title("OTA gateway")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Over-the-air updates of an A/B gateway. The paths under /api/v1/ota are also served under /v1/ota, \
             /v1/cloud-integration and /cloud-integration. Every refusal is an ErrorEnvelope.",
        ))
        .license(Some(license))
        .build();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    let cookie = ApiKey::Cookie(ApiKeyValue::new(crate::auth::COOKIE));
    let mut envelope_schemas =
        vec![(ota_api::ErrorEnvelope::name().into_owned(), ota_api::ErrorEnvelope::schema())];
    ota_api::ErrorEnvelope::schemas(&mut envelope_schemas);
    envelope_schemas.push((ota_api::ws::Message::name().into_owned(), ota_api::ws::Message::schema()));
    ota_api::ws::Message::schemas(&mut envelope_schemas);
    let components = ComponentsBuilder::new()
        .security_scheme("bearer", SecurityScheme::Http(bearer))
        .security_scheme("session", SecurityScheme::ApiKey(cookie))
        .schemas_from_iter(envelope_schemas)
        .build();
    OpenApiBuilder::new().info(info).components(Some(components)).build()
}

fn finish(mut doc: OpenApi) -> OpenApi {
    let extensions = Extensions::builder().add("x-prefixes", json!(PREFIXES));
    doc.extensions = Some(extensions.build());
    doc
}
