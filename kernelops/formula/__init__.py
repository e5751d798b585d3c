"""The formula language: text to expressions, derivatives, and questions about an expression. Standard library only.

Read in this order: ops (the table of operations), expr (one node), defined (operations written in terms of others),
fold (constants), simplify, grad, structure, tokens, parse. Limits of derivatives where a distance is 0: limits, then
distances, expansion, series, polynomial, identities.
"""
