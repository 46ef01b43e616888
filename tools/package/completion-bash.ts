import type { Completion } from '../../src/commands/command.ts';
import { type CommandWords, firstWords, secondWords, shellWord, wordsForShells } from './command-words.ts';

/** The line that fills COMPREPLY with what a value may be. */
function offer(offers: Completion | undefined): string {
  if (offers === undefined) return ':';
  if (typeof offers !== 'string') return `_relive_words ${shellWord(offers.join(' '))}`;
  if (offers === 'file') return '_relive_files -f';
  if (offers === 'directory') return '_relive_files -d';
  return `_relive_names ${offers}`;
}

function optionCases({ name, options }: CommandWords): string[] {
  return options
    .filter(({ value }) => value !== 'never')
    .map(({ names, offers }) => {
      const patterns = names.map((option) => shellWord(`${name} ${option}`)).join(' | ');
      return `    ${patterns}) ${offer(offers)} ;;`;
    });
}

/** Which options take the word behind them: `COMMAND --option`. */
function valueCases(list: readonly CommandWords[]): string {
  const patterns = list.flatMap(({ name, options }) =>
    options
      .filter(({ value }) => value === 'always')
      .flatMap(({ names }) => names.map((option) => shellWord(`${name} ${option}`))),
  );
  // Options may stand before the command, too.
  return [`' --site'`, ...patterns].join(' | \\\n      ');
}

function positionalCases({ name, positional, many }: CommandWords): string[] {
  return positional.map((offers, index) => {
    const last = many && index === positional.length - 1;
    // From this argument on, any number of them.
    const pattern = last ? `${shellWord(`${name} `)}*` : shellWord(`${name} ${index}`);
    return `    ${pattern}) ${offer(offers)} ;;`;
  });
}

function optionLists({ name, options }: CommandWords): string {
  const all = options.flatMap(({ names }) => names).join(' ');
  return `    ${shellWord(name)}) _relive_words ${shellWord(all)} ;;`;
}

/** Completion for bash. */
export function bashCompletion(): string {
  const { commands, groups } = wordsForShells();
  const first = firstWords().map(([word]) => word);
  const groupNames = Object.keys(groups);
  return `# bash completion for relive; made from its table of commands.

_relive_words() {
  mapfile -t COMPREPLY < <(compgen -W "$1" -- "$cur")
}

_relive_files() {
  compopt -o filenames 2>/dev/null
  mapfile -t COMPREPLY < <(compgen "$1" -- "$cur")
}

# The names of a kind that the site has.
_relive_names() {
  _relive_words "$(relive complete "$1" --site "$site" 2>/dev/null)"
  # An address, an ISO file or a directory may stand there as well.
  if ((\${#COMPREPLY[@]} == 0)) && [[ $cur == */* || $1 == image ]]; then _relive_files -f; fi
}

_relive() {
  local cur=\${COMP_WORDS[COMP_CWORD]} site=. command='' place=0 expects='' word i
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=\${COMP_WORDS[i]}
    if [[ $word == '=' ]]; then continue; fi
    if [[ -n $expects ]]; then
      if [[ $expects == --site ]]; then site=$word; fi
      expects=''
      continue
    fi
    case "$command $word" in
    ${valueCases(commands)})
      expects=$word
      continue
      ;;
    esac
    case $word in
    -*) continue ;;
    esac
    case $command in
    '') command=$word ;;
    ${groupNames.map(shellWord).join(' | ')}) command="$command $word" ;;
    *) place=$((place + 1)) ;;
    esac
  done
  if [[ $cur == '=' ]]; then cur=''; fi
  if [[ -n $expects ]]; then
    case "$command $expects" in
    ' --site') _relive_files -d ;;
${commands.flatMap(optionCases).join('\n')}
    esac
    return
  fi
  if [[ $cur == -* ]]; then
    case $command in
${commands.map(optionLists).join('\n')}
    *) _relive_words '--site --json --quiet --help --version' ;;
    esac
    return
  fi
  case $command in
  '') _relive_words ${shellWord(first.join(' '))} ;;
${groupNames
  .map(
    (group) =>
      `  ${shellWord(group)}) _relive_words ${shellWord(
        secondWords(group)
          .map(([word]) => word)
          .join(' '),
      )} ;;`,
  )
  .join('\n')}
  *)
    case "$command $place" in
${commands.flatMap(positionalCases).join('\n')}
    esac
    ;;
  esac
}

complete -F _relive relive
`;
}
