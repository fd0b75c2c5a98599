"""Prints a template of CloudFormation as JSON: `!Ref` and the like in their long form.

template.py TEMPLATE
"""

import json
import sys

from cfnlint.decode import decode

template, findings = decode(sys.argv[1])
assert not findings, findings
json.dump(template, sys.stdout, default=str)
