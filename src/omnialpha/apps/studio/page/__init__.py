"""The page itself.

layout.py    the parts of the page          question.py  the left side in use: what to do, with what
blocks.py    parts joined with actions      answer.py    the right side in use: run, look, arrange, save
parts/       styles, templates, scripts
"""
