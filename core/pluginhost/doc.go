// Package pluginhost starts plugins, keeps them in their place and asks them.
//
// A plugin is hostile from its first instruction. It runs as a user of its
// own, without privileges and without a way to get any, in PID, mount, IPC and
// (without the network grant) network namespaces of its own, from the file
// whose digest was compared, held until it runs, or from a sealed copy of it; a
// script runs from a folder that only root can change. Landlock, where the kernel has it, leaves it the
// system's programs and libraries, its folder in the store, its state and its
// sockets; resource limits are set where the kernel lets us. It is reached
// through a socket in a folder that only it and root can enter, and both sides
// compare the peer's user. A start, every question and an end have a deadline,
// every answer a size.
//
// Guaranteed: no plugin outlives its host, or leaves a process behind; nothing
// that a plugin prints can harm the host; ending a plugin takes at most
// killTimeout, whatever it does; what a killed host left in the run folder is
// removed with the next start; an error names the plugin, its version, what was
// expected and what to do. Not guaranteed: that an answer is right (what may be
// signed or changed is checked by pki and change); a bound on memory, which
// takes a cgroup; and, with Options.Isolate off, any of the cell: then a child
// that leaves the process group lives on.
package pluginhost
