//! The update server: a plain static file server for a signed repository, as any CDN or object store is one.
//!
//! Knows ranges, entity tags and nothing of updates. Counts what it sends and can damage files on the way, for tests.

use std::{
    collections::BTreeMap,
    io::{self, SeekFrom},
    net::SocketAddr,
    path::{Component, Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
};
use futures_util::stream;
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncSeekExt as _},
    net::TcpSocket,
};

/// Bytes that are read and sent at once.
const CHUNK: usize = 64 * 1024;

/// A running server. Ends when it is dropped.
pub struct UpdateServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

struct Shared {
    root: PathBuf,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    damaged: Option<Damage>,
    broken: Option<String>,
    hidden: Option<String>,
    bytes_per_second: Option<u32>,
    sent: BTreeMap<String, u64>,
    starts: Vec<(String, u64)>,
}

/// A byte that leaves the server changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Path below the root, without a leading slash.
    pub path: String,
    /// Which byte.
    pub offset: u64,
    /// What is flipped in it.
    pub flip: u8,
}

impl UpdateServer {
    /// Serves `root` on a loopback port; 0 is a free one.
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn start(root: &Path, port: u16) -> anyhow::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        // What was handed to the kernel counts as sent; a small buffer keeps that close to what the other side has.
        socket.set_send_buffer_size(128 * 1024)?;
        socket.bind(([127, 0, 0, 1], port).into()).with_context(|| format!("update server: port {port}"))?;
        let listener = socket.listen(64)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { root: root.canonicalize()?, told: Mutex::default() });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, shared, task })
    }

    /// The port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.address.port()
    }

    /// Changes one byte of what is sent from now on; `None`: nothing is changed any more.
    pub fn damage(&self, damage: Option<Damage>) {
        self.shared.told().damaged = damage;
    }

    /// Breaks the connection off in the middle of files whose path holds `part`; `None`: of none any more.
    pub fn break_off(&self, part: Option<&str>) {
        self.shared.told().broken = part.map(str::to_owned);
    }

    /// Answers 404 for files whose path ends with `end`; `None`: for none any more.
    pub fn hide(&self, end: Option<&str>) {
        self.shared.told().hidden = end.map(str::to_owned);
    }

    /// Goes away: nothing listens on the port any more.
    pub fn stop(&self) {
        self.task.abort();
    }

    /// Sends no faster than this from now on.
    pub fn slow_down(&self, bytes_per_second: Option<u32>) {
        self.shared.told().bytes_per_second = bytes_per_second;
    }

    /// Bytes of bodies sent so far, of files whose path holds `part`.
    #[must_use]
    pub fn sent(&self, part: &str) -> u64 {
        let told = self.shared.told();
        told.sent.iter().filter(|(path, _)| path.contains(part)).map(|(_, bytes)| bytes).sum()
    }

    /// Offsets at which bodies started so far, of files whose path holds `part`, in order.
    #[must_use]
    pub fn starts(&self, part: &str) -> Vec<u64> {
        let told = self.shared.told();
        told.starts.iter().filter(|(path, _)| path.contains(part)).map(|(_, start)| *start).collect()
    }
}

impl Drop for UpdateServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn answer(State(shared): State<Arc<Shared>>, method: Method, uri: Uri, asked: HeaderMap) -> Response {
    if !matches!(method, Method::GET | Method::HEAD) {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    match file(&shared, &method, uri.path(), &asked).await {
        Ok(response) => response,
        Err(error) if error.kind() == io::ErrorKind::NotFound => StatusCode::NOT_FOUND.into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn file(shared: &Arc<Shared>, method: &Method, path: &str, asked: &HeaderMap) -> io::Result<Response> {
    let name = path.trim_start_matches('/').to_owned();
    let relative = Path::new(&name);
    let plain = relative.components().all(|part| matches!(part, Component::Normal(_)));
    let path = shared.root.join(relative);
    let hidden = shared.told().hidden.as_ref().is_some_and(|end| name.ends_with(end));
    if name.contains('%') || !plain || hidden || !path.is_file() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let mut file = File::open(&path).await?;
    let meta = file.metadata().await?;
    let (length, tag) = (meta.len(), tag(&meta));
    let mut headers = HeaderMap::new();
    headers.insert(header::ETAG, tag.clone());
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(&name)));
    if asked.get(header::IF_NONE_MATCH) == Some(&tag) {
        return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
    }
    let wanted = asked.get(header::RANGE).filter(|_| asked.get(header::IF_RANGE).is_none_or(|t| *t == tag));
    let (status, start, end) = match wanted.and_then(|value| range(value.to_str().ok()?, length)) {
        None => (StatusCode::OK, 0, length),
        Some(Some((start, end))) => (StatusCode::PARTIAL_CONTENT, start, end),
        Some(None) => {
            headers.insert(header::CONTENT_RANGE, text(format!("bytes */{length}")));
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, headers).into_response());
        }
    };
    if status == StatusCode::PARTIAL_CONTENT {
        headers
            .insert(header::CONTENT_RANGE, text(format!("bytes {start}-{}/{length}", end.saturating_sub(1))));
    }
    headers.insert(header::CONTENT_LENGTH, (end - start).into());
    if method == Method::HEAD {
        return Ok((status, headers).into_response());
    }
    file.seek(SeekFrom::Start(start)).await?;
    shared.told().starts.push((name.clone(), start));
    Ok((status, headers, body(Arc::clone(shared), name, file, start, end)).into_response())
}

fn body(shared: Arc<Shared>, name: String, file: File, start: u64, end: u64) -> Body {
    let state = (shared, name, file, start);
    Body::from_stream(stream::try_unfold(state, move |(shared, name, mut file, at)| async move {
        let left = usize::try_from(end - at).unwrap_or(usize::MAX);
        if left == 0 {
            return Ok::<_, io::Error>(None);
        }
        let mut chunk = vec![0; left.min(CHUNK)];
        let read = file.read(&mut chunk).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        chunk.truncate(read);
        let pause = shared.told().bytes_per_second.map(|speed| pause(read, speed));
        if let Some(pause) = pause {
            // tidy: waits as long as the link that is played would
            tokio::time::sleep(pause).await;
        }
        {
            let mut told = shared.told();
            if told.broken.as_ref().is_some_and(|part| name.contains(part)) {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            if let Some(damage) = told.damaged.as_ref().filter(|d| d.path == name) {
                let hit = damage.offset.checked_sub(at).and_then(|n| usize::try_from(n).ok());
                if let Some(byte) = hit.and_then(|n| chunk.get_mut(n)) {
                    *byte ^= damage.flip;
                }
            }
            *told.sent.entry(name.clone()).or_default() += read as u64;
        }
        let next = at + read as u64;
        Ok(Some((Bytes::from(chunk), (shared, name, file, next))))
    }))
}

/// How long so many bytes take.
fn pause(bytes: usize, per_second: u32) -> Duration {
    Duration::from_secs(bytes as u64) / per_second.max(1)
}

/// The part of a file that `bytes=…` asks for, end exclusive. `None`: not understood, all of it; `Some(None)`: not there.
fn range(value: &str, length: u64) -> Option<Option<(u64, u64)>> {
    let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
    let (start, end) = match (first, last) {
        ("", suffix) => (length.saturating_sub(suffix.parse().ok()?), length),
        (start, "") => (start.parse().ok()?, length),
        (start, last) => (start.parse().ok()?, last.parse::<u64>().ok()?.saturating_add(1).min(length)),
    };
    Some((start < end).then_some((start, end)))
}

/// A strong entity tag: changes with length and time of change.
fn tag(meta: &std::fs::Metadata) -> HeaderValue {
    use std::os::unix::fs::MetadataExt as _;
    text(format!("\"{:x}-{:x}.{:x}\"", meta.len(), meta.mtime(), meta.mtime_nsec()))
}

fn text(value: String) -> HeaderValue {
    HeaderValue::from_str(&value).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn content_type(name: &str) -> &'static str {
    if name.ends_with(".json") { "application/json" } else { "application/octet-stream" }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_range_lies_within_the_file(value in "bytes=[0-9]{0,20}-[0-9]{0,20}", length in 0_u64..1000) {
            if let Some(Some((start, end))) = range(&value, length) {
                prop_assert!(start < end && end <= length);
            }
        }
    }

    #[test]
    fn ranges_are_read_as_http_has_them() {
        assert_eq!(range("bytes=0-0", 10), Some(Some((0, 1))));
        assert_eq!(range("bytes=4-", 10), Some(Some((4, 10))));
        assert_eq!(range("bytes=-3", 10), Some(Some((7, 10))));
        assert_eq!(range("bytes=4-99", 10), Some(Some((4, 10))));
        assert_eq!(range("bytes=10-", 10), Some(None));
        assert_eq!(range("bytes=5-4", 10), Some(None));
        assert_eq!(range("bytes=0-1,4-5", 10), None);
        assert_eq!(range("lines=1-2", 10), None);
    }
}
