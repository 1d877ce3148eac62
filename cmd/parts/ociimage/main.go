// Command ociimage writes a container image of one layer as an OCI-layout tar, without a registry or a daemon.
//
//	ociimage -o FILE -name NAME [-entrypoint ARG]... [-cmd ARG]... [-env K=V]... [-user UID:GID]
//	         [-workdir PATH] [-label K=V]... [-arch ARCH] IMAGEPATH=SOURCE...
//
// SOURCE is a file or a folder. The same sources and arguments give the same bytes: names are sorted, owners are
// 0:0, times are the epoch, permissions are 0755 for folders and executables and 0644 else. `ctr images import`
// and the kubelet's runtime take the file under NAME.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command(ctx, os.Args[1:], os.Stderr); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return
		}
		fmt.Fprintln(os.Stderr, "ociimage:", err)
		stop()
		os.Exit(1)
	}
}

// command writes the image that args describe. On error the output file is as it was.
func command(ctx context.Context, args []string, usage io.Writer) error {
	spec := Spec{Labels: map[string]string{}}
	fs := flag.NewFlagSet("ociimage", flag.ContinueOnError)
	fs.SetOutput(usage)
	output := fs.String("o", "", "file to write")
	fs.StringVar(&spec.Name, "name", "", "full name of the image, with its tag")
	fs.StringVar(&spec.Arch, "arch", runtime.GOARCH, "architecture of the programs in it")
	fs.StringVar(&spec.User, "user", "", "UID:GID that its first process runs as")
	fs.StringVar(&spec.WorkingDir, "workdir", "/", "folder that its first process starts in")
	fs.Var(list{&spec.Entrypoint}, "entrypoint", "argument of the entry point; repeat for more")
	fs.Var(list{&spec.Cmd}, "cmd", "default argument; repeat for more")
	fs.Var(list{&spec.Env}, "env", "KEY=VALUE of its environment; repeat for more")
	fs.Func("label", "KEY=VALUE; repeat for more", func(s string) error { return addPair(spec.Labels, s) })
	if err := fs.Parse(args); err != nil {
		return err
	}
	sources := map[string]string{}
	for _, arg := range fs.Args() {
		if err := addPair(sources, arg); err != nil {
			return err
		}
	}
	if *output == "" {
		return errors.New("-o is missing")
	}
	files, err := collect(sources)
	if err != nil {
		return err
	}
	return replaceFile(*output, func(w io.Writer) error { return Write(ctx, w, spec, files) })
}

// list is a flag that may be given several times.
type list struct{ values *[]string }

func (l list) String() string { return "" }

func (l list) Set(v string) error {
	*l.values = append(*l.values, v)
	return nil
}

func addPair(to map[string]string, s string) error {
	key, value, ok := strings.Cut(s, "=")
	if !ok || key == "" {
		return fmt.Errorf("%q is not of the form KEY=VALUE", s)
	}
	if _, twice := to[key]; twice {
		return fmt.Errorf("%q is given twice", key)
	}
	to[key] = value
	return nil
}
