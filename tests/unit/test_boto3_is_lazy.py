"""Who reads no queue of SQS does not pay for boto3."""

import subprocess
import sys


def test_neither_the_command_line_nor_a_node_imports_boto3():
    """
    It takes a third of a second; the poller imports it, in a thread, when it starts.
    """
    program = (
        "import sys, gateway.cli.jobs, gateway.cli.serve; print({'boto3', 'botocore'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout == "set()\n", done
