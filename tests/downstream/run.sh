#!/usr/bin/env bash
# Builds an environment with the four projects and runs the compatibility tests in it:
#   bash tests/downstream/run.sh VENV [pytest arguments]
# The first time takes 17 minutes on two cores, most of it mmcv's compilation. MMCV chooses another version.
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=${1:?usage: bash $0 VENV [pytest arguments]}
shift

if [ ! -e "$venv/ready" ]; then
    python3.11 -m venv "$venv"
    pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@"; }
    pip install -q torch==2.13.0 -r tests/downstream/requirements.txt
    # mmcv-lite has no mmcv.ops, which three of the projects import. There is no wheel for this torch.
    MMCV_WITH_OPS=1 FORCE_CUDA=0 pip install -q --no-build-isolation --no-binary mmcv "mmcv==${MMCV:-2.1.0}"
    # Its wheel was built for numpy 1.
    pip install -q --no-deps --no-build-isolation --no-binary xtcocotools xtcocotools
    pip install -q --no-deps mmpose==1.3.2 mmdet==3.3.0 mmsegmentation==1.2.2 mmpretrain==1.2.0
    # mmpretrain imports torchvision, of which there may be no build for this machine.
    pip install -q --no-deps torchvision==0.28.0
    "$venv/bin/python" -c 'import torchvision' 2> /dev/null ||
        cp tests/downstream/declare_torchvision_ops.py "$venv/lib/python3.11/site-packages/sitecustomize.py"
    pip install -q -e .
    touch "$venv/ready"
fi
exec "$venv/bin/python" -m pytest tests/downstream -m downstream -n 0 --import-mode=importlib "$@"
