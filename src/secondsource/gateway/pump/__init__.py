"""Commonplace events from socket to socket without the interpreter: a little C, where there was a compiler for it."""
