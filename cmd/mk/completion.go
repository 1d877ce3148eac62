package main

import (
	"github.com/urfave/cli/v2"
)

func (s *session) completion() *cli.Command {
	return &cli.Command{
		Name: "completion", Usage: "print a completion script", ArgsUsage: "bash|zsh|fish",
		Description: "mk completion bash > /etc/bash_completion.d/mk", UsageText: exitsTold,
		Action: func(c *cli.Context) error {
			script, ok := map[string]string{"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}[c.Args().First()]
			if !ok || c.Args().Len() != 1 {
				return usage("mk completion: bash, zsh or fish?")
			}
			s.printf("%s", script)
			return nil
		},
	}
}

// The scripts ask mk itself, with what of the word is typed.
const bashCompletion = `_mk() {
  local words cur
  cur="${COMP_WORDS[COMP_CWORD]}"
  words=("${COMP_WORDS[@]:0:$COMP_CWORD}")
  [ "$cur" = "=" ] && cur=""
  COMPREPLY=($(compgen -W "$("${words[@]}" "--generate-bash-completion=$cur" 2>/dev/null)" -- "$cur"))
  [[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace
}
complete -o default -F _mk mk
`

const zshCompletion = `#compdef mk
_mk() {
  local -a options
  options=(${(f)"$("${words[@]:0:$((CURRENT-1))}" "--generate-bash-completion=${words[CURRENT]}" 2>/dev/null)"})
  (( $#options )) && compadd -a options || _files
}
compdef _mk mk
`

const fishCompletion = `function __mk_complete
  set -l words (commandline -opc)
  $words "--generate-bash-completion="(commandline -ct) 2>/dev/null
end
complete -c mk -a '(__mk_complete)'
`
