//! Makes the completions of the shells.

use super::{Offer, is_last, names};
use crate::cli::{Action, Flag};

/// Makes the completion for bash: a function that reads the typed words, without the package bash-completion.
pub(super) fn bash(flags: &[Flag]) -> String {
    let mut cases = String::new();
    let mut plain = Vec::new();
    for flag in flags {
        let pattern = names(flag).join("|");
        match Offer::of(flag) {
            Offer::NoValue => {}
            // The shell itself quotes the names of files.
            Offer::Files => {
                cases += &format!("    {pattern}) compopt -o default 2>/dev/null; return ;;\n")
            }
            Offer::Words(words) => {
                cases += &format!("    {pattern}) words='{}' ;;\n", words.join(" "))
            }
            Offer::Nothing => plain.push(pattern),
        }
    }
    let plain = plain.join("|");
    if !plain.is_empty() {
        cases += &format!("    {plain}) return ;;\n");
    }
    let all: Vec<String> = flags.iter().flat_map(names).collect();
    format!(
        "\
# Completes the flags of tcpcore in bash.
_tcpcore() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD - 1]}} words=
    COMPREPLY=()
    # The equals sign of --flag=value is a word of its own.
    if [[ $cur == = ]]; then
        cur=
    elif [[ $prev == = ]]; then
        prev=${{COMP_WORDS[COMP_CWORD - 2]}}
    fi
    case $prev in
{cases}    *) [[ $cur != -* ]] || words='{}' ;;
    esac
    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))
}}
complete -F _tcpcore tcpcore
",
        all.join(" ")
    )
}

/// Makes the completion for zsh, which is loaded from a folder of `fpath` or by `source`.
pub(super) fn zsh(flags: &[Flag]) -> String {
    let mut text = "\
#compdef tcpcore
# Completes the flags of tcpcore in zsh.
_tcpcore() {
    _arguments -s -S \\
"
    .to_owned();
    for flag in flags {
        text += &format!("        {} \\\n", zsh_argument(flag));
    }
    text + "        '*:HOST\\:PORT: '
}
if [[ $funcstack[1] == _tcpcore ]]; then
    _tcpcore \"$@\"
else
    compdef _tcpcore tcpcore
fi
"
}

/// Makes an argument of `_arguments`: excluded flags, names, brief and value.
fn zsh_argument(flag: &Flag) -> String {
    let escaped = |text: &str| {
        let text = text.replace('\\', "\\\\").replace('[', "\\[").replace(']', "\\]");
        text.replace(':', "\\:").replace('\'', "'\\''")
    };
    let offer = Offer::of(flag);
    let value = match (flag.takes(), &offer) {
        (Some(taken), Offer::Files) => format!(":{}:_files", escaped(taken.placeholder)),
        (Some(taken), Offer::Words(words)) => {
            format!(":{}:({})", escaped(taken.placeholder), words.join(" "))
        }
        (Some(taken), _) => format!(":{}: ", escaped(taken.placeholder)),
        (None, _) => String::new(),
    };
    let (short_end, long_end) = if offer == Offer::NoValue { ("", "") } else { ("+", "=") };
    let excluded = match flag.action {
        // It adds up.
        Action::Verbosity(_) => "*".into(),
        _ if is_last(flag) => "(- *)".into(),
        _ => format!("({})", names(flag).join(" ")),
    };
    let long = format!("--{}{long_end}", flag.long);
    let brief = escaped(flag.brief);
    match flag.short {
        Some(short) => format!("'{excluded}'{{-{short}{short_end},{long}}}'[{brief}]{value}'"),
        None => format!("'{excluded}{long}[{brief}]{value}'"),
    }
}

/// Makes the completion for fish.
pub(super) fn fish(flags: &[Flag]) -> String {
    let mut text = "# Completes the flags of tcpcore in fish.\ncomplete -c tcpcore -f\n".to_owned();
    for flag in flags {
        let value = match Offer::of(flag) {
            Offer::NoValue => String::new(),
            Offer::Files => " -r -F".into(),
            Offer::Words(words) => format!(" -x -a '{}'", words.join(" ")),
            Offer::Nothing => " -x".into(),
        };
        let short = flag.short.map_or(String::new(), |short| format!(" -s {short}"));
        let brief = flag.brief.replace('\\', "\\\\").replace('\'', "\\'");
        text += &format!("complete -c tcpcore{short} -l {}{value} -d '{brief}'\n", flag.long);
    }
    text
}

/// Makes the completion for PowerShell, which offers files where this offers nothing.
pub(super) fn powershell(flags: &[Flag]) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let list = |texts: &[&str]| {
        let texts: Vec<String> = texts.iter().copied().map(quoted).collect();
        format!("@({})", texts.join(", "))
    };
    let (mut rows, mut words, mut unlisted) = (String::new(), String::new(), Vec::new());
    for flag in flags {
        let names = names(flag);
        for name in &names {
            let (name, brief) = (quoted(name), quoted(flag.brief));
            rows += &format!("        @{{ Text = {name}; Brief = {brief} }}\n");
        }
        match Offer::of(flag) {
            Offer::NoValue => {}
            Offer::Files | Offer::Nothing => unlisted.extend(names),
            Offer::Words(offered) => {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                words += &format!(
                    "    if ($previous -cin {}) {{\n        $offers = {} | ForEach-Object {{ \
                     @{{ Text = $_; Brief = $_ }} }}\n    }}\n",
                    list(&names),
                    list(&offered)
                );
            }
        }
    }
    let unlisted: Vec<&str> = unlisted.iter().map(String::as_str).collect();
    format!(
        "\
# Completes the flags of tcpcore in PowerShell.
Register-ArgumentCompleter -Native -CommandName tcpcore -ScriptBlock {{
    param($word, $ast, $position)
    $previous = $ast.CommandElements | Where-Object {{ $_.Extent.EndOffset -lt $position }} |
        Select-Object -Last 1 | ForEach-Object {{ $_.ToString() }}
    if ($previous -cin {}) {{ return }}
    $offers = @(
{rows}    )
{words}    $offers | Where-Object {{ $_.Text.StartsWith($word, [StringComparison]::Ordinal) }} | ForEach-Object {{
        [System.Management.Automation.CompletionResult]::new($_.Text, $_.Text, 'ParameterValue', $_.Brief)
    }}
}}
",
        list(&unlisted)
    )
}
