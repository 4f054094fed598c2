//! Wire types of the HTTP and WebSocket API, nothing else.
