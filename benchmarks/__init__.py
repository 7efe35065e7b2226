"""What the claims of speed are measured with: one command for each row of docs/performance.md, `script/bench NAME`.

Times drift from machine to machine and from minute to minute; ratios don't. So everything that is compared is measured
in the same run, in turns, and the median of the turns is what counts.

A measurement is a function without arguments, named in `__main__.py`, that prints its table.
"""
