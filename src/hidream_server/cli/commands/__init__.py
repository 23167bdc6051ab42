"""What each command is called and takes; what it does lies beside this package.

A command imports what it needs when it runs: help is quick, and so is a start.
"""
