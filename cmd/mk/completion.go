package main

import (
	"github.com/urfave/cli/v2"
)

func (s *session) completion() *cli.Command {
	return &cli.Command{
		Name: "completion", Usage: "print a completion script", ArgsUsage: "bash|zsh|fish",
		Description: "mk completion bash > /etc/bash_completion.d/mk", UsageText: exitsRead,
		Action: func(c *cli.Context) error {
			script, ok := map[string]string{"bash": bashCompletion, "zsh": zshCompletion}[c.Args().First()]
			if c.Args().First() == "fish" {
				text, err := c.App.ToFishCompletion()
				if err != nil {
					return err
				}
				script, ok = text, true
			}
			if !ok || c.Args().Len() != 1 {
				return usage("mk completion: bash, zsh or fish?")
			}
			s.printf("%s", script)
			return nil
		},
	}
}

// The scripts ask mk itself: the flag is urfave/cli's.
const bashCompletion = `_mk() {
  local words cur
  cur="${COMP_WORDS[COMP_CWORD]}"
  words=("${COMP_WORDS[@]:0:$COMP_CWORD}")
  COMPREPLY=($(compgen -W "$("${words[@]}" --generate-bash-completion 2>/dev/null)" -- "$cur"))
}
complete -o default -F _mk mk
`

const zshCompletion = `#compdef mk
_mk() {
  local -a options
  options=(${(f)"$("${words[@]:0:$((CURRENT-1))}" --generate-bash-completion 2>/dev/null)"})
  _describe 'mk' options
}
compdef _mk mk
`
