use super::*;
use crate::cli::{Command, ENDING, FLAGS, parse};
use std::ffi::OsString;

/// A table with a flag of each offer, which stays as it is when the program gets another flag.
fn sample() -> [Flag; 4] {
    let program = |setting, placeholder| Action::Program {
        setting,
        placeholder,
        default: None,
        apply: |_, _| Ok(()),
    };
    let flag = |long, short, brief, action| Flag { long, short, brief, doc: "Do it.", action };
    [
        flag("file", Some('f'), "A file; [-] is stdin", Action::File),
        flag("rate", Some('r'), "It's a rate: N", program(Setting::MetricsServers, "N")),
        flag("form", None, "text or json", program(Setting::LogFormat, "FORM")),
        flag("loud", Some('l'), "Log more", Action::Verbosity(1)),
    ]
}

fn printed(args: &[&str]) -> String {
    match parse(args.iter().map(OsString::from)) {
        Ok(Command::Print(text)) => text,
        other => panic!("{args:?}: {other:?}"),
    }
}

fn refused(args: &[&str]) -> String {
    parse(args.iter().map(OsString::from)).unwrap_err().to_string()
}

#[test]
fn each_name_prints_its_text_and_ends_the_parsing() {
    for generated in Generated::ALL {
        let text = printed(&["--generate", generated.name(), "nonsense"]);
        assert_eq!(text, generated.text(FLAGS));
        assert!(text.ends_with('\n'));
        assert!(text.lines().all(|line| line.trim_end() == line), "{generated:?}");
    }
    let expected = "is not allowed, expected man, bash, zsh, fish or powershell";
    for (bad, remedy) in [("Bash", "; write bash"), ("pwsh", "; write powershell"), ("sh", "")] {
        assert_eq!(
            refused(&["--generate", bad]),
            format!("tcpcore: --generate: \"{bad}\" {expected}{remedy}")
        );
    }
    assert!(refused(&["--generate"]).contains("the value is missing"));
}

#[test]
fn each_flag_is_in_each_text() {
    for flag in FLAGS {
        let has = |generated: Generated, part: &str| {
            assert!(generated.text(FLAGS).contains(part), "{generated:?}: {part}");
        };
        has(Generated::Man, &format!("\\fB\\-\\-{}\\fR", flag.long.replace('-', "\\-")));
        has(Generated::Bash, &format!("--{}", flag.long));
        has(Generated::Zsh, &format!("--{}", flag.long));
        has(Generated::Fish, &format!(" -l {} ", flag.long));
        has(Generated::PowerShell, &format!("Text = '--{}'; Brief = ", flag.long));
    }
}

#[test]
fn each_word_that_a_flag_expects_is_offered_and_accepted() {
    let is_name = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase());
    let mut lists = 0;
    for flag in FLAGS {
        let Some(taken) = flag.takes() else { continue };
        let offered = words(taken.setting);
        for word in &offered {
            // Without a shard, --shard-by has nothing to cut.
            let base = ["localhost:1".into(), "--shard=0/1".into()];
            let arguments = base.into_iter().chain([format!("--{}={word}", flag.long).into()]);
            assert!(parse(arguments).is_ok(), "--{} {word}", flag.long);
        }
        let expected = taken.setting.expected().replace(" or ", ", ");
        let expected: Vec<&str> = expected.split(", ").collect();
        if expected.iter().all(|word| is_name(word)) {
            assert_eq!(offered, expected, "--{}", flag.long);
            lists += 1;
        }
    }
    assert!(lists >= 3, "the lists of words are found");
}

#[test]
fn the_man_page_has_the_sections_of_the_help() {
    let page = man::page(FLAGS);
    for part in [
        ".SH NAME\ntcpcore \\- reads lines from ",
        ".SH SYNOPSIS\n.B tcpcore\n[FLAGS] HOST:PORT...\n.br\n.B tcpcore\n",
        ".SH DESCRIPTION\nWhen the connection",
        "\n.PP\nHOST is ",
        "\n.SH EXIT STATUS\n.TP\n.B 0\nstopped by a signal",
        "\n.TP\n.B 128 + N\nended",
        "\n.SH ENVIRONMENT\n.TP\n.B RUST_LOG\nwhich log lines",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert_eq!(page.matches(".SH ").count(), 5 + ENDING.matches(":\n").count());
    let mut flags = sample();
    flags[0].doc = ".a 'b'\n'c' \\t \"-d\"";
    let page = man::page(&flags);
    assert!(page.contains("\n\\&.a \\(aqb\\(aq\n\\&\\(aqc\\(aq \\(rst \\(dq\\-d\\(dq\n"), "{page}");
}

#[test]
fn bash_has_these_cases() {
    let text = shells::bash(&sample());
    let (_, cases) = text.split_once("case $prev in\n").unwrap();
    let (cases, _) = cases.split_once("esac").unwrap();
    assert_eq!(
        cases,
        "    -f|--file) compopt -o default 2>/dev/null; return ;;
    --form) words='text json' ;;
    -r|--rate) return ;;
    *) [[ $cur != -* ]] || words='-f --file -r --rate --form -l --loud' ;;
    "
    );
}

#[test]
fn zsh_has_these_arguments() {
    let text = shells::zsh(&sample());
    let (_, arguments) = text.split_once("_arguments -s -S \\\n").unwrap();
    let (arguments, _) = arguments.split_once("\n}").unwrap();
    assert_eq!(
        arguments,
        r"        '(-f --file)'{-f+,--file=}'[A file; \[-\] is stdin]:FILE:_files' \
        '(-r --rate)'{-r+,--rate=}'[It'\''s a rate\: N]:N: ' \
        '(--form)--form=[text or json]:FORM:(text json)' \
        '*'{-l,--loud}'[Log more]' \
        '*:HOST\:PORT: '"
    );
}

#[test]
fn fish_has_these_lines() {
    assert_eq!(
        shells::fish(&sample()),
        r"# Completes the flags of tcpcore in fish.
complete -c tcpcore -f
complete -c tcpcore -s f -l file -r -F -d 'A file; [-] is stdin'
complete -c tcpcore -s r -l rate -x -d 'It\'s a rate: N'
complete -c tcpcore -l form -x -a 'text json' -d 'text or json'
complete -c tcpcore -s l -l loud -d 'Log more'
"
    );
}

#[test]
fn powershell_has_this_script() {
    assert_eq!(
        shells::powershell(&sample()),
        r"# Completes the flags of tcpcore in PowerShell.
Register-ArgumentCompleter -Native -CommandName tcpcore -ScriptBlock {
    param($word, $ast, $position)
    $previous = $ast.CommandElements | Where-Object { $_.Extent.EndOffset -lt $position } |
        Select-Object -Last 1 | ForEach-Object { $_.ToString() }
    if ($previous -cin @('-f', '--file', '-r', '--rate')) { return }
    $offers = @(
        @{ Text = '-f'; Brief = 'A file; [-] is stdin' }
        @{ Text = '--file'; Brief = 'A file; [-] is stdin' }
        @{ Text = '-r'; Brief = 'It''s a rate: N' }
        @{ Text = '--rate'; Brief = 'It''s a rate: N' }
        @{ Text = '--form'; Brief = 'text or json' }
        @{ Text = '-l'; Brief = 'Log more' }
        @{ Text = '--loud'; Brief = 'Log more' }
    )
    if ($previous -cin @('--form')) {
        $offers = @('text', 'json') | ForEach-Object { @{ Text = $_; Brief = $_ } }
    }
    $offers | Where-Object { $_.Text.StartsWith($word, [StringComparison]::Ordinal) } | ForEach-Object {
        [System.Management.Automation.CompletionResult]::new($_.Text, $_.Text, 'ParameterValue', $_.Brief)
    }
}
"
    );
}
