"""Preconditioners: approximations of the inverse of diag(alpha) + K, built from entries or products of K."""
