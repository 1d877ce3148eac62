package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// local are the verbs that look at the container itself.
func local(verb string, args []string, out io.Writer) error {
	switch verb {
	case "cat":
		return cat(args, out)
	case "ls":
		return ls(args, out)
	case "write":
		if len(args) != 2 {
			return errUsage
		}
		return os.WriteFile(args[0], []byte(args[1]), 0o644)
	case "env":
		_, err := fmt.Fprintln(out, strings.Join(slices.Sorted(slices.Values(os.Environ())), "\n"))
		return err
	case "hostname":
		name, err := os.Hostname()
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(out, name)
		return err
	case "id":
		_, err := fmt.Fprintf(out, "uid=%d gid=%d\n", os.Getuid(), os.Getgid())
		return err
	}
	return fmt.Errorf("%w: no verb %q", errUsage, verb)
}

func cat(args []string, out io.Writer) error {
	for _, name := range args {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		_, err = io.Copy(out, f)
		f.Close()
		if err != nil {
			return fmt.Errorf("reading %s: %w", name, err)
		}
	}
	return nil
}

func ls(args []string, out io.Writer) error {
	if len(args) != 1 {
		return errUsage
	}
	entries, err := os.ReadDir(args[0])
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(out, info.Mode(), info.Size(), e.Name()); err != nil {
			return err
		}
	}
	return nil
}
