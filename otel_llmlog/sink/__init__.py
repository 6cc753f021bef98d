"""The sink: an OTLP receiver (gRPC and HTTP) that answers success only after COMMIT."""
