"""A driver for the AlpaSim simulator: gRPC service, sessions, batching, and a pre-flight client."""
