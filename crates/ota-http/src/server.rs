//! The server as the daemon sees it: bind, run, stop.

use std::{future::Future, io, net::SocketAddr};

use axum::Router;
use tokio::net::TcpListener;

use crate::{
    AppState, HttpConfig, accept,
    app::{App, blocking},
    router,
    tls::{SharedAcceptor, TlsError, TlsMaterial},
};

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error("{address} cannot be listened on")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Plain HTTP would leave the machine.
    #[error("{address} is not loopback: configure TLS, or allow plain HTTP there")]
    PlainRefused {
        /// The address.
        address: SocketAddr,
    },
    /// TLS cannot be spoken.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A bound server. Takes connections once it runs.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    router: Router,
    app: App,
    tls: Option<SharedAcceptor>,
}

/// Exchanges the certificate of a running server.
#[derive(Clone)]
pub struct TlsReloader(Option<SharedAcceptor>);

impl TlsReloader {
    /// New connections use `material`. Does nothing on a plain server.
    ///
    /// # Errors
    /// When it cannot be used; the old one stays in use.
    pub fn reload(&self, material: &TlsMaterial) -> Result<(), TlsError> {
        self.0.as_ref().map_or(Ok(()), |shared| shared.replace(material))
    }
}

impl Server {
    /// Binds the address. The engine must have been started.
    ///
    /// # Errors
    /// When the address cannot be listened on or the certificate cannot be used; `PlainRefused` off loopback without
    /// TLS.
    pub async fn bind(config: HttpConfig, state: AppState) -> Result<Self, ServerError> {
        let address = config.listen;
        let tls = config.tls.as_ref().map(SharedAcceptor::new).transpose()?;
        if tls.is_none() && !config.allow_plain && !address.ip().is_loopback() {
            return Err(ServerError::PlainRefused { address });
        }
        let failed = |source| ServerError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let app = App::new(state, config);
        Ok(Self { listener, address, router: router::router(&app), app, tls })
    }

    /// Where it listens.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// For exchanging the certificate later.
    #[must_use]
    pub fn tls_reloader(&self) -> TlsReloader {
        TlsReloader(self.tls.clone())
    }

    /// Serves until `shutdown`, then takes no more connections, closes WebSockets and lets running requests end.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        let app = self.app.clone();
        let serve = accept::run(self.listener, self.router, self.app, self.tls);
        tokio::pin!(serve);
        tokio::select! {
            () = shutdown => {
                app.stopping.cancel();
                serve.await;
            }
            () = serve.as_mut() => {}
        }
        // For how long each was not used; their coming and going is kept already.
        if !matches!(blocking(move || app.sessions.keep()).await, Ok(Ok(()))) {
            tracing::warn!("when sessions were last used is not kept over the restart");
        }
    }
}
