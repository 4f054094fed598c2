//! The accept loop: admits connections within the limits, speaks TLS where configured, serves requests on each.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use axum::{Router, body::Body, response::Response};
use http::{HeaderValue, Request, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tower::ServiceExt;

use crate::{
    address::Peer,
    app::App,
    bare::BareAnswers,
    config::Limits,
    conn::{BusyBody, Conn},
    tls::SharedAcceptor,
    watched::{Place, WatchedIo},
};

/// Longest head that the parser takes; [`Limits::head_bytes`] is checked on what it parsed.
const PARSE_BUFFER: usize = 64 * 1024;
/// What a client gets for whom there is no place.
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 5\r\ncontent-length: 0\r\n\r\n";

/// Which request came over contradictory framing; found in the extensions of a request.
#[derive(Clone, Copy)]
pub(crate) struct Contradictory;

/// Every open connection.
#[derive(Default)]
struct Registry {
    open: Mutex<(u64, BTreeMap<u64, Arc<Conn>>)>,
}

impl Registry {
    fn open(&self) -> MutexGuard<'_, (u64, BTreeMap<u64, Arc<Conn>>)> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits a connection; over a limit one that waits for its client makes room: of the address that has the most, so that a
    /// flood costs those it comes from, the one that has waited longest. `None`: nobody can. Also says whether one was closed.
    fn admit(&self, address: IpAddr, limits: &Limits) -> Option<(u64, Arc<Conn>, bool)> {
        let mut open = self.open();
        let own = open.1.values().filter(|conn| conn.address == address).count();
        let mut evicted = false;
        if own >= limits.connections_per_address {
            evict(&mut open.1, |conn| conn.address == address)?;
            evicted = true;
        } else if open.1.len() >= limits.connections {
            evict(&mut open.1, |_| true)?;
            evicted = true;
        }
        let conn = Conn::new(address);
        let id = open.0;
        open.0 += 1;
        open.1.insert(id, Arc::clone(&conn));
        Some((id, conn, evicted))
    }

    fn remove(&self, id: u64) {
        self.open().1.remove(&id);
    }
}

fn evict(open: &mut BTreeMap<u64, Arc<Conn>>, among: impl Fn(&Conn) -> bool) -> Option<()> {
    let mut held = HashMap::<IpAddr, usize>::new();
    for conn in open.values() {
        *held.entry(conn.address).or_default() += 1;
    }
    let waiting = open.iter().filter(|(_, conn)| among(conn)).filter_map(|(id, conn)| {
        let held = held.get(&conn.address).copied().unwrap_or_default();
        Some(((held, conn.waiting()?), *id))
    });
    let (_, id) = waiting.max()?;
    open.remove(&id)?.evicted.cancel();
    Some(())
}

/// Serves until `app.stopping`, then lets running requests end.
pub(crate) async fn run(listener: TcpListener, router: Router, app: App, tls: Option<SharedAcceptor>) {
    let registry = Arc::new(Registry::default());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = app.stopping.cancelled() => break,
        };
        match accepted {
            Ok((stream, address)) => admit(stream, address, &registry, &router, &app, tls.as_ref()),
            Err(error) => {
                // Out of file descriptors, mostly: the next call would fail at once again.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    app.tasks.close();
    if tokio::time::timeout(app.config.limits.drain_time, app.tasks.wait()).await.is_err() {
        tracing::warn!(open = app.tasks.len(), "connections were closed before their requests ended");
    }
}

fn admit(
    stream: TcpStream,
    address: SocketAddr,
    registry: &Arc<Registry>,
    router: &Router,
    app: &App,
    tls: Option<&SharedAcceptor>,
) {
    let Some((id, conn, evicted)) = registry.admit(address.ip(), &app.config.limits) else {
        app.metrics.connections_refused.fetch_add(1, Ordering::Relaxed);
        if tls.is_none() {
            let _ = stream.try_write(FULL);
        }
        return;
    };
    if evicted {
        app.metrics.connections_evicted.fetch_add(1, Ordering::Relaxed);
    }
    app.metrics.connections.fetch_add(1, Ordering::Relaxed);
    let place = Place::new({
        let (registry, app) = (Arc::clone(registry), app.clone());
        move || {
            registry.remove(id);
            app.metrics.connections.fetch_sub(1, Ordering::Relaxed);
        }
    });
    let _ = stream.set_nodelay(true);
    let link = Link { conn, router: router.clone(), app: app.clone(), address };
    let tls = tls.cloned();
    app.tasks.spawn(async move {
        match tls {
            None => link.serve(stream, place, Peer { address, secure: false, certified: None }).await,
            Some(tls) => {
                let handshake = tls.acceptor().accept(stream);
                let within = tokio::time::timeout(link.app.config.limits.head_time, handshake);
                let accepted = tokio::select! {
                    accepted = within => accepted,
                    () = link.conn.evicted.cancelled() => return,
                };
                match accepted {
                    Ok(Ok(stream)) => {
                        let clients = &link.app.config.clients;
                        let certified = clients.holder(stream.get_ref().1.peer_certificates()).map(Arc::new);
                        link.serve(stream, place, Peer { address, secure: true, certified }).await;
                    }
                    Ok(Err(error)) => tracing::debug!(%address, %error, "TLS handshake failed"),
                    Err(_) => tracing::debug!(%address, "TLS handshake took too long"),
                }
            }
        }
    });
}

/// One connection on its way.
struct Link {
    conn: Arc<Conn>,
    router: Router,
    app: App,
    address: SocketAddr,
}

impl Link {
    async fn serve<I: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        self,
        io: I,
        place: Place,
        peer: Peer,
    ) {
        let limits = self.app.config.limits;
        let secure = peer.secure;
        let io = TokioIo::new(WatchedIo::new(
            io,
            Arc::clone(&self.conn),
            place,
            BareAnswers::new(self.app.clone()),
        ));
        let (router, conn) = (self.router, Arc::clone(&self.conn));
        let service = hyper::service::service_fn(move |request| {
            answer(router.clone(), Arc::clone(&conn), peer.clone(), request)
        });
        let builder = builder(secure, limits.head_bytes);
        let served = builder.serve_connection_with_upgrades(io, service);
        tokio::pin!(served);
        let mut stopping = false;
        loop {
            tokio::select! {
                ended = served.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(address = %self.address, error, "connection ended");
                    }
                    return;
                }
                () = self.conn.overdue(&limits) => return,
                () = self.conn.evicted.cancelled() => return,
                () = self.app.stopping.cancelled(), if !stopping => {
                    stopping = true;
                    served.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

fn builder(secure: bool, head_bytes: usize) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    // Time-outs of heads are ours: they also cover silence, handshakes and HTTP/2.
    builder.http1().max_buf_size(PARSE_BUFFER).header_read_timeout(None).timer(TokioTimer::new());
    builder
        .http2()
        .max_header_list_size(u32::try_from(head_bytes).unwrap_or(u32::MAX))
        .max_concurrent_streams(32)
        .keep_alive_interval(Duration::from_secs(20))
        .timer(TokioTimer::new());
    if secure { builder } else { builder.http1_only() }
}

async fn answer(
    router: Router,
    conn: Arc<Conn>,
    peer: Peer,
    request: Request<Incoming>,
) -> Result<Response<BusyBody>, Infallible> {
    let busy = conn.begin();
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(peer);
    if conn.contradictory.load(Ordering::Relaxed) {
        request.extensions_mut().insert(Contradictory);
    }
    // What follows a chunked body on the same connection cannot be trusted to be a request of the same sender.
    let last = request.headers().contains_key(header::TRANSFER_ENCODING);
    let mut response = router.oneshot(request).await.unwrap_or_else(|never| match never {});
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        conn.upgraded();
    }
    if last {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response.map(|body| BusyBody { body, busy }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(connections: usize, per_address: usize) -> Limits {
        Limits { connections, connections_per_address: per_address, ..Limits::default() }
    }

    fn address(n: u8) -> IpAddr {
        [192, 0, 2, n].into()
    }

    #[tokio::test(start_paused = true)]
    async fn the_connection_that_waited_longest_makes_room() {
        let registry = Registry::default();
        let limits = limits(2, 2);
        let (_, first, _) = registry.admit(address(1), &limits).unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        let (_, second, evicted) = registry.admit(address(2), &limits).unwrap();
        assert!(!evicted);
        let (_, _, evicted) = registry.admit(address(3), &limits).unwrap();
        assert!(evicted && first.evicted.is_cancelled() && !second.evicted.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_from_many_addresses_costs_none_of_who_holds_few() {
        let registry = Registry::default();
        let limits = limits(8, 4);
        let (_, honest, _) = registry.admit(address(1), &limits).unwrap();
        for n in 0..100 {
            tokio::time::advance(Duration::from_millis(10)).await;
            registry.admit(address(2 + n % 3), &limits).unwrap();
        }
        assert!(!honest.evicted.is_cancelled());
    }

    #[tokio::test]
    async fn a_connection_with_a_running_request_is_never_closed_to_make_room() {
        let registry = Registry::default();
        let limits = limits(2, 1);
        let (_, conn, _) = registry.admit(address(1), &limits).unwrap();
        let busy = conn.begin();
        assert!(registry.admit(address(1), &limits).is_none());
        drop(busy);
        assert!(registry.admit(address(1), &limits).is_some());
    }

    #[tokio::test]
    async fn there_are_512_connections_and_64_of_one_address() {
        let (registry, limits) = (Registry::default(), Limits::default());
        let mut busy = Vec::new();
        let mut admit = |n: u8| {
            let admitted = registry.admit(address(n), &limits);
            admitted.inspect(|(_, conn, _)| busy.push(conn.begin())).is_some()
        };
        for n in 0..8 {
            assert!((0..64).all(|_| admit(n)));
            assert!(!admit(n), "the 65th of {n}");
        }
        assert!(!admit(8), "the 513th");
    }

    #[tokio::test]
    async fn an_address_over_its_share_costs_its_own_connections_only() {
        let registry = Registry::default();
        let limits = limits(3, 1);
        let (_, honest, _) = registry.admit(address(1), &limits).unwrap();
        for _ in 0..10 {
            registry.admit(address(9), &limits).unwrap();
        }
        assert!(!honest.evicted.is_cancelled());
        assert_eq!(registry.open().1.len(), 2);
    }
}
