# make demo    train a small Keras model, compress it, run it, print one table
# make test    everything that decides whether a change is good
# make wheels  the wheels of x86-64, 64-bit and 32-bit Arm Linux in dist/, built with ziglang and checked
# make android the library for Android phones in dist/android/, built with ziglang or the NDK that ANDROID_NDK_HOME names, and checked
# make test-arm64   the delegate and LiteRT's own wheel on an emulated 64-bit Arm
# make fuzz SECONDS=60   hostile bytes at every parser and decoder, each target so long, under sanitizers
# make clean   remove what these made
#
# Each sets up its own environment in .venv. Everything that is downloaded, cached or built stays inside this folder.

PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
SOURCES := setup.cfg setup.py pyproject.toml \
           $(shell find delegates -name '*.cc' -o -name '*.h' -o -name '*.inc' -o -name 'CMakeLists.txt' 2>/dev/null)

export PIP_CACHE_DIR := $(CURDIR)/.cache/pip
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export KERAS_HOME := $(CURDIR)/.cache/keras
export MPLCONFIGDIR := $(CURDIR)/.cache/matplotlib
export XDG_CACHE_HOME := $(CURDIR)/.cache
# TensorFlow's start-up notes and the search for a GPU say nothing about this project.
export TF_CPP_MIN_LOG_LEVEL := 2
export CUDA_VISIBLE_DEVICES :=

.DEFAULT_GOAL := help
.PHONY: help demo test wheels android test-arm64 fuzz clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

demo: $(VENV)/.installed
	$(BIN)/python samples/digits_demo.py

test: $(VENV)/.installed
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

TARGETS := linux-x86_64 linux-aarch64 linux-armv7

wheels: $(VENV)/.cross
	rm -f dist/*.whl
	for target in $(TARGETS); do \
	  TFLITE_SMART_TARGET=$$target $(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist . || exit 1; \
	done
	TFLITE_SMART_WHEELS=$(CURDIR)/dist $(BIN)/python -m pytest tests/arm64/test_wheels.py
	@ls -1 dist/*.whl

android: $(VENV)/.cross
	$(BIN)/tflite_smart delegate --target android-arm64 --output dist/android/arm64-v8a
	test -z "$$ANDROID_NDK_HOME" || $(BIN)/tflite_smart delegate --target android-armv7 --output dist/android/armeabi-v7a
	$(BIN)/tflite_smart delegate --target android-x86_64 --output dist/android/x86_64
	TFLITE_SMART_ANDROID=$(CURDIR)/dist/android $(BIN)/python -m pytest tests/delegates/test_android.py

test-arm64: $(VENV)/.cross
	$(BIN)/python tests/arm64/run.py

SECONDS := 60

fuzz: $(VENV)/.cross
	$(BIN)/python delegates/fuzz/run.py --seconds $(SECONDS) $(FUZZ_FLAGS)

clean:
	rm -rf $(VENV) .cache build dist *.egg-info .pytest_cache .hypothesis samples/out delegates/*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Written last, so that an interrupted set-up starts again.
$(VENV)/.installed: $(SOURCES)
	@echo "setting up $(VENV): once, a few minutes"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[keras,test]'
	touch $@

$(VENV)/.cross: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet 'setuptools>=77' cmake ninja ziglang
	touch $@
