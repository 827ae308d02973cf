"""The admin listener: metrics, one request's attempts, replicas, the fleet, the API's description, the console."""
