"""Which computation a call is: the code that a function can reach, and the program that it belongs to.

`bytecode` reduces compiled code to what it does, `origins` separates the user's code from installed
code, `reach` walks from a function to all that its names lead to, and `identity` keeps the result
for as long as those names still mean the same objects.
"""
