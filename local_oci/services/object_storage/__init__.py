"""Object Storage: buckets, objects and multipart uploads."""
