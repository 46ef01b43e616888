import type { Completion } from '../../src/commands/command.ts';
import {
  type CommandWords,
  firstWords,
  type OptionWords,
  secondWords,
  shellWord,
  wordsForShells,
} from './command-words.ts';

/** What _arguments calls for a value (zshcompsys(1)). */
function action(offers: Completion | undefined): string {
  if (offers === undefined) return ' ';
  if (typeof offers !== 'string') return `(${offers.join(' ')})`;
  if (offers === 'file') return '_files';
  if (offers === 'directory') return '_directories';
  return `_relive_${offers}`;
}

/** Text inside the brackets of a specification, or before a colon. */
function plain(text: string): string {
  return text.replaceAll(/[[\]:\\]/g, (sign) => `\\${sign}`);
}

function optionSpecs({ names, description, value, offers }: OptionWords): string[] {
  const others = names.length > 1 ? `(${names.join(' ')})` : '';
  return names.map((name) => {
    const sign = value === 'never' ? '' : name.startsWith('--') ? '=' : '+';
    const after = value === 'never' ? '' : `${value === 'perhaps' ? '::' : ':'}value:${action(offers)}`;
    return shellWord(`${others}${name}${sign}[${plain(description)}]${after}`);
  });
}

function functionName(command: string): string {
  return `_relive_command_${command.replaceAll(/[ -]/g, '_')}`;
}

function commandFunction({ name, options, positional, many }: CommandWords): string {
  const places = positional.map((offers, index) => {
    const place = many && index === positional.length - 1 ? '*' : String(index + 1);
    return shellWord(`${place}: :${action(offers)}`);
  });
  const specs = [...options.flatMap(optionSpecs), ...places];
  return `${functionName(name)}() {\n  _arguments -S \\\n    ${specs.join(' \\\n    ')}\n}\n`;
}

function described(list: readonly (readonly [string, string])[]): string {
  return list.map(([word, about]) => shellWord(`${word}:${about.replaceAll(':', '\\:')}`)).join('\n      ');
}

/** Completion for zsh. */
export function zshCompletion(): string {
  const { commands, groups } = wordsForShells();
  const single = commands.filter(({ name }) => !name.includes(' '));
  return `#compdef relive
# zsh completion for relive; made from its table of commands.

# The names of a kind that the site has.
_relive_names() {
  local -a names
  names=(\${(f)"$(relive complete $1 --site \${opt_args[--site]:-\${relive_site:-.}} 2>/dev/null)"})
  compadd -a names
}
_relive_profile() { _relive_names profile }
_relive_shipped() { _relive_names shipped }
_relive_repository() { _relive_names repository || _directories }
_relive_image() { _relive_names image || _files -g '*.iso(-.)' }

${commands.map(commandFunction).join('\n')}
_relive() {
  local curcontext=$curcontext context state line relive_site
  local -a list
  typeset -A opt_args
  _arguments -C -S \\
    '--site=[the site to work on]:value:_directories' \\
    '--json[print one JSON object a line]' \\
    '(-q --quiet)'{-q,--quiet}'[print only findings, warnings, errors and the result]' \\
    '(-h --help)'{-h,--help}'[show this help]' \\
    '(-V --version)'{-V,--version}'[print the version]' \\
    '1: :->command' \\
    '*:: :->rest'
  relive_site=\${opt_args[--site]:-.}
  case $state in
  command)
    list=(
      ${described(firstWords())}
    )
    _describe -t commands command list
    ;;
  rest)
    case $words[1] in
${single.map(({ name }) => `    ${name}) ${functionName(name)} ;;`).join('\n')}
${Object.keys(groups)
  .map((group) => {
    const cases = secondWords(group).map(([word]) => `      ${word}) ${functionName(`${group} ${word}`)} ;;`);
    return `    ${group})
      if ((CURRENT == 2)); then
        list=(
      ${described(secondWords(group))}
        )
        _describe -t commands command list
        return
      fi
      shift words
      ((CURRENT--))
      case $words[1] in
${cases.join('\n')}
      esac
      ;;`;
  })
  .join('\n')}
    esac
    ;;
  esac
}

_relive "$@"
`;
}
