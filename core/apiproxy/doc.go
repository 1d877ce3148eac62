// Package apiproxy is a worker's way to the API servers: a proxy on
// 127.0.0.1 that passes connections on to any control-plane node, byte for
// byte; what is inside stays between kubelite and the API server.
//
// It guarantees that it starts from the list on disk though no control-plane
// node answers; that it follows their coming and going, by watching the
// endpoints of the Service kubernetes, without ending a connection that need
// not end; that an API server which refuses or hangs costs a new connection no
// more than a fraction of a second while another one works; and that it ends
// when its context does. It does not guarantee that a connection outlives the
// API server behind it: clients connect again.
package apiproxy
