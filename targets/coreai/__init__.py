"""Target `coreai`: an asset for Apple's Core AI, executed here by Apple's own runtime."""

from targets.coreai.target import CoreAITarget

TARGET = CoreAITarget
