import type { Completion } from '../../src/commands/command.ts';
import {
  type CommandWords,
  firstWords,
  type OptionWords,
  secondWords,
  wordsForShells,
} from './command-words.ts';

/** Text as one word of fish, where a backslash and a quote are escaped inside quotes. */
function fishWord(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
}

function offer(offers: Completion | undefined): string {
  if (offers === undefined) return '';
  if (typeof offers !== 'string') return ` -a ${fishWord(offers.join(' '))}`;
  if (offers === 'file') return ' -F';
  if (offers === 'directory') return " -a '(__fish_complete_directories)'";
  return ` -a ${fishWord(`(__relive_names ${offers})`)}${offers === 'image' ? ' -F' : ''}`;
}

function at(command: string): string {
  return `complete -c relive -n ${fishWord(command === '' ? '__relive_at' : `__relive_at ${command}`)}`;
}

function optionLine(command: string, { names, description, value, offers }: OptionWords): string {
  const flags = names.map((name) => (name.startsWith('--') ? `-l ${name.slice(2)}` : `-s ${name.slice(1)}`));
  const argument = value === 'always' ? ` -x${offer(offers)}` : value === 'perhaps' ? offer(offers) : '';
  return `${at(command)} ${flags.join(' ')} -d ${fishWord(description)}${argument.replace(' -x -F', ' -r -F')}`;
}

function commandLines({ name, options, positional }: CommandWords): string[] {
  const offers = [...new Set(positional.map(offer).filter((line) => line !== ''))];
  return [
    ...options.map((option) => optionLine(name, option)),
    ...offers.map((line) => `${at(name)}${line}`),
  ];
}

/** Completion for fish. */
export function fishCompletion(): string {
  const { commands, groups } = wordsForShells();
  const valued = commands.flatMap(({ options }) =>
    options.filter(({ value }) => value === 'always').flatMap(({ names }) => names),
  );
  const words = [
    ...firstWords().map(([word, about]) => ['', word, about] as const),
    ...Object.keys(groups).flatMap((group) =>
      secondWords(group).map(([word, about]) => [group, word, about] as const),
    ),
  ];
  return `# fish completion for relive; made from its table of commands.

# The words before the cursor that are neither options nor their values.
function __relive_given
    set -l tokens (commandline -opc)
    set -l expected no
    for token in $tokens[2..]
        if test $expected = yes
            set expected no
            continue
        end
        switch $token
            case ${[...new Set(valued)].toSorted().join(' ')}
                set expected yes
            case '-*'
            case '*'
                echo $token
        end
    end
end

# Whether the command is the one named; without a name: whether there is none yet.
function __relive_at
    set -l given (__relive_given)
    set -l wanted (count $argv)
    if contains -- "$argv" '' ${Object.keys(groups).join(' ')}
        test (count $given) = $wanted; and test "$given" = "$argv"
        return
    end
    test (count $given) -ge $wanted; and test "$given[1..$wanted]" = "$argv"
end

# The names of a kind that the site has.
function __relive_names
    set -l site .
    set -l tokens (commandline -opc)
    for index in (seq (count $tokens))
        switch $tokens[$index]
            case --site
                set -q tokens[(math $index + 1)]; and set site $tokens[(math $index + 1)]
            case '--site=*'
                set site (string replace -- --site= '' $tokens[$index])
        end
    end
    relive complete $argv[1] --site $site 2>/dev/null
end

complete -c relive -f
complete -c relive -s V -l version -d 'print the version' -n __relive_at
${words.map(([group, word, about]) => `${at(group)} -a ${word} -d ${fishWord(about)}`).join('\n')}
${commands.flatMap(commandLines).join('\n')}
`;
}
