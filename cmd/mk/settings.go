package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"mk8s.io/mk/core/node"
	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/settings"
)

func (s *session) settingsVerbs() *cli.Command {
	return &cli.Command{
		Name: "settings", Aliases: []string{"setting"}, Usage: "list, get, set, unset and apply this node's settings",
		Description: "mk settings\nsudo mk settings set key-type rsa-2048\nsudo mk settings apply -f settings.yaml", UsageText: exitsUsual,
		Flags: []cli.Flag{origin()}, Action: s.listSettings,
		Subcommands: []*cli.Command{
			{Name: "list", Usage: "list the settings, with where each comes from", Description: "mk settings list", UsageText: exitsRead, Flags: []cli.Flag{origin()}, Action: s.listSettings},
			{Name: "get", Usage: "print a setting", ArgsUsage: "KEY", Description: "mk settings get key-type", UsageText: exitsRead, Action: s.getSetting},
			{Name: "set", Usage: "set a setting", ArgsUsage: "KEY VALUE", Description: "sudo mk settings set group k8s", UsageText: exitsUsual, Action: s.setSetting},
			{Name: "unset", Usage: "go back to the default", ArgsUsage: "KEY", Description: "sudo mk settings unset group", UsageText: exitsUsual, Action: s.setSetting},
			{Name: "apply", Usage: "replace all settings by those of a file; - reads standard input", Description: "sudo mk settings apply -f settings.yaml", UsageText: exitsUsual,
				Flags: []cli.Flag{&cli.StringFlag{Name: "file", Aliases: []string{"f"}, Usage: "the `FILE` with all settings that are not defaults"}}, Action: s.applySettings},
		},
	}
}

func origin() cli.Flag {
	return &cli.BoolFlag{Name: "origin", Usage: "show the variable, or file and line, that sets each"}
}

type setting struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Origin string `json:"origin"`
	Where  string `json:"where,omitempty"`
	Doc    string `json:"doc"`
}

func shown(v settings.Value) setting {
	return setting{v.Key.Name, v.Shown(), string(v.Origin), v.Where, v.Key.Doc}
}

// diskPatience is how long a file may take to be read or written where the
// verb is in no hurry.
const diskPatience = 30 * time.Second

// settings are those of the node's folder, which need not exist.
func (s *session) settings() (*settings.Settings, error) {
	file := s.global.root + "/settings.yaml"
	set, err := node.Await(cmp.Or(s.patience, diskPatience), file,
		func(func(string)) (*settings.Settings, error) { return settings.Load(file, s.env) }, func(*settings.Settings) {})
	if _, silent := errors.AsType[*node.SilentError](err); silent || errors.Is(err, fs.ErrPermission) {
		return nil, err
	}
	if err != nil {
		return nil, usage("%s", err.Error())
	}
	return set, nil
}

func (s *session) listSettings(c *cli.Context) error {
	set, err := s.settings()
	if err != nil {
		return err
	}
	var out []setting
	for _, v := range set.All() {
		out = append(out, shown(v))
	}
	return s.show(out, func(w io.Writer) error {
		t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
		fmt.Fprintln(t, "SETTING\tVALUE\tORIGIN\tMEANING")
		for _, v := range out {
			from := v.Origin
			if c.Bool("origin") && v.Where != "" {
				from += " " + v.Where
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", v.Key, v.Value, from, v.Doc)
		}
		return t.Flush()
	})
}

func (s *session) getSetting(c *cli.Context) error {
	if c.Args().Len() != 1 {
		return usage("mk settings get: which setting?")
	}
	set, err := s.settings()
	if err != nil {
		return err
	}
	v, err := set.Get(c.Args().First())
	if err != nil {
		return usage("%s", err.Error())
	}
	return s.show(shown(v), func(w io.Writer) error {
		_, err := fmt.Fprintln(w, v.Shown())
		return err
	})
}

func (s *session) setSetting(c *cli.Context) error {
	want := 2
	if c.Command.Name == "unset" {
		want = 1
	}
	if c.Args().Len() != want {
		return usage("mk settings %s %s", c.Command.Name, c.Command.ArgsUsage)
	}
	if err := s.root("settings " + c.Command.Name); err != nil {
		return err
	}
	set, err := s.settings()
	if err != nil {
		return err
	}
	if want == 2 {
		err = set.Set(c.Args().Get(0), c.Args().Get(1))
	} else {
		err = set.Unset(c.Args().First())
	}
	if err != nil {
		return usage("%s", err.Error())
	}
	data, err := set.Bytes()
	if err != nil {
		return err
	}
	return s.writeSettings(c, data)
}

// writeSettings replaces the settings file, or shows what it would hold.
func (s *session) writeSettings(c *cli.Context, data []byte) error {
	if s.global.dryRun {
		return s.show(map[string]string{"file": s.global.root + "/settings.yaml", "content": string(data)}, func(w io.Writer) error {
			_, err := w.Write(data)
			return err
		})
	}
	o, err := s.options("settings")
	if err != nil {
		return err
	}
	n, err := operation.CreateNode(o)
	if err != nil {
		return err
	}
	return joinClose(n.WriteSettings(c.Context, data), n)
}

// applySettings takes a file as a whole, or refuses it with its faults.
func (s *session) applySettings(c *cli.Context) error {
	name := c.String("file")
	if name == "" || c.Args().Len() > 0 {
		return usage("mk settings apply needs a file: -f FILE")
	}
	if err := s.root("settings apply"); err != nil {
		return err
	}
	data, err := s.readInput(name, settings.MaxFile)
	if err != nil {
		return usage("%s", err.Error())
	}
	if _, err := settings.Parse(name, data, func(string) string { return "" }); err != nil {
		return usage("%s", err.Error())
	}
	return s.writeSettings(c, data)
}

// readInput reads a file that a person named, or standard input for -.
func (s *session) readInput(name string, most int64) ([]byte, error) {
	from := s.in
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		defer f.Close() //nolint:errcheck // only read
		if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
			return nil, fmt.Errorf("%s is not a file", name)
		}
		from = f
	}
	data, err := io.ReadAll(io.LimitReader(from, most+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(data)) > most {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, most)
	}
	return data, nil
}
