package main

import (
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"mk8s.io/mk/core/recovery"
)

// dbctl is MicroK8s' spelling of the snapshots.
func (s *session) dbctl() *cli.Command {
	return &cli.Command{
		Name: "dbctl", Usage: "back the datastore up, or restore it (MicroK8s' spelling)", ArgsUsage: "backup [-o FILE] | restore FILE",
		Description: "sudo mk dbctl backup -o backup.tar.gz\nsudo mk dbctl restore backup.tar.gz", UsageText: exitsUsual + ", 6 needs --yes",
		Action: func(c *cli.Context) error {
			words := c.Args().Slice()
			switch {
			case len(words) == 1 && words[0] == "backup":
				if err := s.root("dbctl backup"); err != nil {
					return err
				}
				return s.save(c, recovery.SaveOptions{Why: "save"}, s.backupFile(c))
			case len(words) == 2 && words[0] == "restore":
				return s.restore(c, words[1])
			}
			return usage("mk dbctl takes backup, with -o FILE, or restore FILE")
		},
	}
}

// backupFile is what -o names: here it is a file, as MicroK8s has it, unless it
// is one of mk's formats.
func (s *session) backupFile(c *cli.Context) string {
	if o := c.String("output"); c.IsSet("output") && !slices.Contains(outputs(), o) {
		return o
	}
	return "backup-" + time.Now().UTC().Format("2006-01-02-15-04-05") + ".tar.gz"
}
