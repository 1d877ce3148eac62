package recovery

// identityFile says how often the cluster was recovered or restored. Nodes
// compare it.
const identityFile = "var/identity.json"
