// Package etcd answers the questions of a clustering plugin whose control-plane
// nodes are the members of one etcd cluster. The plugin clustering/etcd serves
// it as it is; an author of another strategy embeds it, and decides differently
// where that strategy does: who may come, say.
//
// It keeps no state: what it answers depends on what it is asked with.
package etcd
