"""What has just happened in the cloud, for people who look: kept in memory, the latest of it."""
