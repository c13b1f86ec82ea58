"""Asks a running `refseg serve`: python client.py http://127.0.0.1:8000 IMAGE EXPRESSION..."""

import base64
import json
import sys
import urllib.request
from pathlib import Path

server, image, *expressions = sys.argv[1:]
asked = {"image": base64.b64encode(Path(image).read_bytes()).decode(), "expressions": expressions}
body, headers = json.dumps(asked).encode(), {"Content-Type": "application/json"}
request = urllib.request.Request(f"{server}/v1/segment", body, headers)
answers = json.load(urllib.request.urlopen(request))["answers"]
for answer in answers:
    print(f"{answer['expression']}: box {answer['bbox']}, {answer['area']} pixels, score {answer['score']:.2f}")
