"""The formula language: text to expressions, derivatives, and what can be asked of an expression.

Read in this order: ops (the table of operations), expr (one node), definition and defined (operations written in terms
of others, more of which are in elementary, components, complex and sequences), fold (constants), simplify, grad,
structure, calculus (matrices and traces of derivatives), tokens, parse. Limits of derivatives where a distance is 0:
limits, then distances, expansion, series, polynomial, identities. cached has a lazy property and a lock that survives a
fork, for this room and all above.

It imports the standard library and kernelops.errors, and nothing else; everything else imports it. Begin with ops.py;
CONTRIBUTING.md shows how an operation is added.
"""
