"""What tests of every kind share: servers, clusters, waiting, and the scan for leaked secrets."""
