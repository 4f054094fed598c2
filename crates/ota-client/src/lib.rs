//! What ota-admin talks with: HTTP and WebSocket client.
