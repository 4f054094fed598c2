//! An update server that serves a folder well (ranges, ETags) until it is told to lie, cut, stall or redirect.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::Response,
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

/// What was asked.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) path: String,
    /// First byte of the range.
    pub(super) from: Option<u64>,
    pub(super) headers: HeaderMap,
}

/// How to answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Reply {
    /// Another status.
    pub(super) status: Option<u16>,
    /// Headers that replace the honest ones.
    pub(super) headers: Vec<(&'static str, String)>,
    /// Another body.
    pub(super) body: Option<Vec<u8>>,
    /// Answers with the whole file whatever was asked.
    pub(super) no_ranges: bool,
    /// Ends the connection after so many bytes of the body.
    pub(super) cut: Option<usize>,
    /// Sends nothing more after so many bytes.
    pub(super) stall: Option<usize>,
    /// Goes on for ever, without a length.
    pub(super) endless: bool,
}

type Rule = Box<dyn FnMut(&Asked) -> Option<Reply> + Send>;

#[derive(Default)]
struct Inner {
    folder: PathBuf,
    asked: Mutex<Vec<Asked>>,
    rule: Mutex<Option<Rule>>,
}

/// The server; ends with its runtime.
pub(super) struct UpdateServer {
    pub(super) url: String,
    inner: Arc<Inner>,
}

impl UpdateServer {
    pub(super) async fn serving(folder: PathBuf) -> Self {
        let inner = Arc::new(Inner { folder, ..Inner::default() });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = routes(&inner);
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, inner }
    }

    /// Answers by `rule` where it gives a reply, honestly otherwise.
    pub(super) fn rule(&self, rule: impl FnMut(&Asked) -> Option<Reply> + Send + 'static) {
        *self.inner.rule.lock().unwrap() = Some(Box::new(rule));
    }

    pub(super) fn honest(&self) {
        *self.inner.rule.lock().unwrap() = None;
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.inner.asked.lock().unwrap().clone()
    }

    /// Questions for the image.
    pub(super) fn asked_for_image(&self) -> Vec<Asked> {
        self.asked().into_iter().filter(is_image).collect()
    }

    pub(super) fn forget(&self) {
        self.inner.asked.lock().unwrap().clear();
    }
}

fn routes(inner: &Arc<Inner>) -> Router {
    Router::new().fallback(answer).with_state(Arc::clone(inner))
}

/// The same server, to be served in another way as well.
pub(super) fn app(server: &UpdateServer) -> Router {
    routes(&server.inner)
}

pub(super) fn is_image(asked: &Asked) -> bool {
    asked.path.ends_with(".squashfs")
}

async fn answer(State(inner): State<Arc<Inner>>, request: Request) -> Response {
    let range = request.headers().get(header::RANGE).and_then(|value| value.to_str().ok());
    let from = range.and_then(|text| text.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let path = request.uri().path().to_owned();
    let asked = Asked { path: path.clone(), from, headers: request.headers().clone() };
    inner.asked.lock().unwrap().push(asked.clone());
    let reply = inner.rule.lock().unwrap().as_mut().and_then(|rule| rule(&asked));
    let file = std::fs::read(inner.folder.join(path.trim_start_matches('/')));
    respond(&asked, file.ok(), reply.unwrap_or_default())
}

fn respond(asked: &Asked, file: Option<Vec<u8>>, reply: Reply) -> Response {
    let mut response = Response::builder();
    let headers = response.headers_mut().unwrap();
    let mut status = StatusCode::OK;
    let mut body = match file {
        Some(file) => {
            let tag = format!(
                "\"{}-{:x}\"",
                file.len(),
                file.iter().fold(0_u64, |a, b| a.rotate_left(5) ^ u64::from(*b))
            );
            headers.insert(header::ETAG, tag.parse().unwrap());
            let same = asked.headers.get(header::IF_RANGE).is_none_or(|known| *known == *tag);
            match asked.from {
                Some(from) if same && !reply.no_ranges => {
                    let from = usize::try_from(from).unwrap();
                    status = StatusCode::PARTIAL_CONTENT;
                    let range = format!("bytes {from}-{}/{}", file.len() - 1, file.len());
                    headers.insert(header::CONTENT_RANGE, range.parse().unwrap());
                    file[from.min(file.len())..].to_vec()
                }
                _ => file,
            }
        }
        None => {
            status = StatusCode::NOT_FOUND;
            Vec::new()
        }
    };
    body = reply.body.unwrap_or(body);
    for (name, value) in reply.headers {
        headers.insert(HeaderName::from_static(name), value.parse().unwrap());
    }
    if let Some(code) = reply.status {
        status = StatusCode::from_u16(code).unwrap();
    }
    let declared = body.len();
    let pieces: Vec<_> = body.chunks(64 * 1024).map(Bytes::copy_from_slice).collect();
    let body = if reply.endless {
        let more = stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from(vec![0; 64 * 1024])));
        Body::from_stream(stream::iter(pieces).map(Ok).chain(more))
    } else if let Some(after) = reply.cut.or(reply.stall) {
        headers.insert(header::CONTENT_LENGTH, declared.into());
        let stalls = reply.stall.is_some();
        let head = Bytes::from(pieces.concat()).slice(..after.min(declared));
        let head =
            stream::iter(head.chunks(64 * 1024).map(Bytes::copy_from_slice).collect::<Vec<_>>()).map(Ok);
        let tail = stream::once(async move {
            // tidy: waits for what was sent to arrive, which a reset may overtake; the client is under test, not the time.
            tokio::time::sleep(if stalls { Duration::from_secs(3600) } else { Duration::from_millis(30) })
                .await;
            Err(std::io::Error::other("cut"))
        });
        Body::from_stream(head.chain(tail))
    } else {
        headers.entry(header::CONTENT_LENGTH).or_insert(declared.into());
        Body::from(pieces.concat())
    };
    response.status(status).body(body).unwrap()
}
