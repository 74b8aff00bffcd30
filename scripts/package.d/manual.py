#!/usr/bin/env python3
"""Writes the manual pages: manual.py HELP.json CONFIGURATION.md VERSION DATE FOLDER

HELP.json is the output of `chanserv --experimental-dump-help`: chanserv.1, and a page for each subcommand.
CONFIGURATION.md becomes chanserv.yaml.5. Its tables become lists: the first column is the term.
"""
import json
import re
import sys


def escape(text):
    for character, name in {"\\": "\\e", "-": "\\-", "~": "\\(ti", "^": "\\(ha", "`": "\\(ga", "'": "\\(aq"}.items():
        text = text.replace(character, name)
    return re.sub(r"^\.", r"\\&.", text, flags=re.M)


def inline(text):
    """Markdown inside of a line: code and bold text become bold, links their text."""
    text = re.sub(r"\[((?:`[^`]*`|[^\]`])*)\]\([^)\s]+\)", r"\1", text)
    parts = re.split(r"(`` .*? ``|`[^`]+`|\*\*[^*]+\*\*)", text)
    shown = []
    for part in parts:
        code = re.fullmatch(r"`` (.*) ``|`(.+)`|\*\*(.+)\*\*", part)
        shown.append(f"\\fB{escape(code[1] or code[2] or code[3])}\\fR" if code else escape(part))
    return re.sub(r"(?<!\\f[BR])\*([a-z ]+)\*", r"\\fI\1\\fR", "".join(shown))


def verbatim(lines):
    return [".PP", ".RS 4", ".EX", *(escape(line) for line in lines), ".EE", ".RE"]


def heading(title, section, version, date, description):
    name = title.replace("-", "\\-")
    return [f'.TH "{title.upper()}" "{section}" "{date}" "chanserv {version}" "chanserv"', ".SH NAME",
            f"{name} \\- {escape(description)}"]


# --- The subcommands ---

def option_names(argument):
    names = [("-" if n["kind"] == "short" else "--") + n["name"] for n in argument.get("names", [])]
    return sorted(names, key=len)


def synopsis(argument):
    value = f"\\fI{escape(argument['valueName'])}\\fR" if argument.get("valueName") else ""
    if argument["kind"] == "positional":
        word = "\\-" if argument["valueName"] == "-" else value
    else:
        name = option_names(argument)[-1]
        word = f"\\fB{escape(name)}\\fR" + (f" {value}" if argument["kind"] == "option" else "")
    if argument.get("isOptional", True):
        word = f"[{word}]"
    return word + ("..." if argument.get("isRepeating") else "")


def discussion(text):
    """Paragraphs; indented lines and what follows a line in capitals stay as they are."""
    page = []
    for block in text.split("\n\n"):
        lines = block.split("\n")
        if re.fullmatch(r"[A-Z ]+", lines[0]):
            page.append(f".SH {lines.pop(0)}")
        if lines and all(line.startswith(" ") for line in lines):
            page += verbatim([line.removeprefix("  ") for line in lines])
        elif lines:
            page += [".PP", *(escape(line) for line in lines)]
    return page


def command_page(command, path, version, date):
    shown = [a for a in command.get("arguments", []) if a.get("shouldDisplay", True)]
    children = [c for c in command.get("subcommands", []) if c.get("shouldDisplay", True)]
    children = [c for c in children if c["commandName"] != "help"]
    abstract = command["abstract"].rstrip(".").split("\n")[0]
    page = heading("-".join(path), "1", version, date, abstract[0].lower() + abstract[1:])
    words = [synopsis(a) for a in shown] + (["\\fIsubcommand\\fR"] if children else [])
    page += [".SH SYNOPSIS", f"\\fB{escape(' '.join(path))}\\fR", *words]
    page += [".SH DESCRIPTION", escape(command["abstract"])] + discussion(command.get("discussion", ""))
    if shown:
        page.append(".SH OPTIONS")
    for argument in shown:
        value = escape(argument.get("valueName", ""))
        names = ", ".join(f"\\fB{escape(name)}\\fR" for name in option_names(argument))
        takes = argument["kind"] != "flag" and value
        page += [".TP", f"{names} \\fI{value}\\fR".strip() if takes else names, escape(argument.get("abstract", ""))]
    if children:
        page.append(".SH SUBCOMMANDS")
        for child in children:
            name = escape("-".join(path + [child["commandName"]]))
            page += [".TP", f"\\fB{name}\\fR(1)", escape(child["abstract"])]
    page += [".SH SEE ALSO", "\\fBchanserv\\fR(1), \\fBchanserv.yaml\\fR(5)"]
    yield "-".join(path) + ".1", page
    for child in children:
        yield from command_page(child, path + [child["commandName"]], version, date)


# --- The configuration ---

def row_cells(line):
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]


def table(rows):
    columns, page = rows[0], []
    for row in rows[2:]:
        page += [".TP", inline(row[0])]
        if columns[1:] == ["type", "default", "meaning"]:
            page += [f"{inline(row[1])}; default: {inline(row[2])}.", ".br", inline(row[3])]
        else:
            notes = [(column, value) for column, value in zip(columns[1:], row[1:]) if value]
            # With two columns the headings add nothing.
            shown = [f"{inline(c)}: {inline(v)}" if c and len(row) > 2 else inline(v) for c, v in notes]
            page.append("; ".join(shown) or "\\&")
    return page


def configuration_page(text, version, date):
    page = heading("chanserv.yaml", "5", version, date, "configuration of a chanserv host")
    page.append(".SH DESCRIPTION")
    blocks = re.split(r"(^```.*?^```$)", re.sub(r"^<!--.*?-->\n", "", text, flags=re.M | re.S), flags=re.M | re.S)
    for block in blocks:
        if block.startswith("```"):
            page += verbatim(block.split("\n")[1:-1])
            continue
        for paragraph in re.split(r"\n{2,}", block.strip("\n")):
            lines = [line for line in paragraph.split("\n") if line]
            while lines and lines[0].startswith("#"):
                mark, title = lines.pop(0).split(" ", 1)
                if len(mark) > 1:
                    page.append(f".SH {inline(title.upper())}" if len(mark) == 2 else f".SS {inline(title)}")
            if not lines:
                continue
            if lines[0].startswith("|"):
                page += table([row_cells(line) for line in lines])
                continue
            # A list item reaches to the next one.
            for item in re.split(r"\n(?=- )", "\n".join(lines)):
                text = re.sub(r"\s*\n\s*", " ", item)
                page += [".IP \\(bu 2", inline(text[2:])] if text.startswith("- ") else [".PP", inline(text)]
    page += [".SH SEE ALSO", "\\fBchanserv\\fR(1), \\fBchanserv\\-check\\fR(1), \\fBchanserv\\-reload\\fR(1)"]
    return page


def main():
    help_file, configuration, version, date, folder = sys.argv[1:]
    with open(help_file, encoding="utf-8") as file:
        pages = dict(command_page(json.load(file)["command"], ["chanserv"], version, date))
    with open(configuration, encoding="utf-8") as file:
        pages["chanserv.yaml.5"] = configuration_page(file.read(), version, date)
    for name, page in pages.items():
        with open(f"{folder}/man{name[-1]}/{name}", "w", encoding="utf-8") as file:
            file.write("\n".join(page) + "\n")


main()
