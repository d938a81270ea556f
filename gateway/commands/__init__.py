"""The commands, one module each: ``add_arguments`` says what it takes, ``run`` does it and returns the exit code.

What a command needs beyond argparse it imports when it runs, so that ``--help`` is quick.
"""
