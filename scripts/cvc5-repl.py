"""cvc5 as a program: reads SMT-LIB commands, writes their answers. It stands in for the cvc5 binary, which the Python
package does not hold, as far as Cardea needs it.

Options have the names of cvc5's own, as in `--tlimit-per=10000`.
"""

import sys

import cvc5


def commands(lines):
    """One whole command at a time: a parenthesis may close on a later line."""
    text, depth, quote = [], 0, None
    for line in lines:
        for c in line:
            if quote:
                # A doubled quote ends a string and begins the next one, which comes to the same here.
                quote = None if c == quote else quote
            elif c == ";":
                break
            elif c in '"|':
                quote = c
            elif c == "(":
                depth += 1
            elif c == ")":
                depth -= 1
        text.append(line)
        if depth <= 0 and quote is None:
            command, text, depth = "".join(text), [], 0
            if any(not l.lstrip().startswith(";") and l.strip() for l in command.splitlines()):
                yield command


def fresh(options):
    solver = cvc5.Solver(cvc5.TermManager())
    for name, value in options:
        solver.setOption(name, value)
    parser = cvc5.InputParser(solver)
    parser.setIncrementalStringInput(cvc5.InputLanguage.SMT_LIB_2_6, "stdin")
    return solver, parser


def main():
    options = [a[2:].split("=", 1) for a in sys.argv[1:] if a.startswith("--") and "=" in a]
    options = [(name, value) for name, value in options if name != "lang"]
    solver, parser = fresh(options)
    for command in commands(sys.stdin):
        if command.strip() == "(reset)":
            solver, parser = fresh(options)
            continue
        if command.strip() == "(exit)":
            return
        try:
            parser.appendIncrementalStringInput(command)
            answer = parser.nextCommand().invoke(solver, parser.getSymbolManager())
        except RuntimeError as error:
            message = " ".join(str(error).split()).replace('"', '""')
            answer = f'(error "{message}")\n'
        if answer.startswith("unknown"):
            # The library adds why, as in `unknown (TIMEOUT)`; the program does not.
            answer = "unknown\n"
        if answer:
            sys.stdout.write(answer)
            sys.stdout.flush()


main()
