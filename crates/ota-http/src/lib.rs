//! HTTP and WebSocket server: accept loop, limits, authentication, routes.
