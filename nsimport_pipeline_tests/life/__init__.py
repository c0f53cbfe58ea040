"""Weeks of a simulated company's life, followed by incremental imports: do the tables stay equal to NetSuite?"""
