"""What programs begin with that tests interrupt: a SIGALRM raises `Interrupt`, wherever it comes."""

RAISED_BY_ALARM = """
import random, signal, sys, time

class Interrupt(BaseException):
    pass

def interrupt(*_):
    raise Interrupt

signal.signal(signal.SIGALRM, interrupt)
"""
