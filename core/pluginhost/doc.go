// Package pluginhost starts plugins, keeps them in their place and asks them.
//
// A plugin is hostile from its first instruction. It runs as a user of its
// own, without privileges and without a way to get any, in PID, mount, IPC and
// (without the network grant) network namespaces of its own, from a sealed
// copy of the program whose digest was compared. It is reached through a
// socket in a folder that only it and root can enter, and both sides compare
// the peer's user. Every question has a deadline, every answer a size, and
// ending a plugin takes at most killTimeout, whatever it does.
//
// Guaranteed: no plugin outlives its host, or leaves a process behind; nothing
// that a plugin prints can harm the host; an error names the plugin, its
// version, what was expected and what to do. Not guaranteed: that an answer
// is right. What may be signed or changed is checked by pki and change.
package pluginhost
