"""Says a scene in English or Chinese, each time in other words.

Features that a caption leaves out stay free; a feature that is named is in the picture.
"""

from __future__ import annotations

from random import Random

from .scene import Landscape, ObjectScene, Scene

_SIZE_EN = {
    "small": ("small", "little", "tiny"),
    "medium": ("", "", "medium", "medium-sized"),
    "large": ("large", "big", "huge"),
}
_PLACE_EN = {
    "top left": ("top left", "in the top left corner", "at the upper left", "in the upper left"),
    "top": ("top", "at the top", "at the top centre", "in the upper middle"),
    "top right": ("top right", "in the top right corner", "at the upper right"),
    "left": ("left", "on the left", "on the left side", "at the left"),
    "centre": ("", "", "centre", "in the centre", "in the middle", "in the center", "centered"),
    "right": ("right", "on the right", "on the right side", "at the right"),
    "bottom left": ("bottom left", "in the bottom left corner", "at the lower left"),
    "bottom": ("bottom", "at the bottom", "at the bottom centre", "in the lower middle"),
    "bottom right": ("bottom right", "in the bottom right corner", "at the lower right"),
}
_COLOUR_ZH = {
    "red": "红色", "orange": "橙色", "yellow": "黄色", "green": "绿色", "blue": "蓝色",
    "purple": "紫色", "pink": "粉色", "white": "白色", "black": "黑色", "brown": "棕色",
    "grey": "灰色",
}  # fmt: skip
_SHAPE_ZH = {
    "circle": ("圆形", "圆", "圆圈"),
    "square": ("正方形", "方块"),
    "triangle": ("三角形",),
    "star": ("星形", "五角星"),
    "heart": ("心形", "爱心"),
}
_SIZE_ZH = {
    "small": ("小", "小小的"),
    "medium": ("", "", "中等大小的"),
    "large": ("大", "巨大的"),
}
_PLACE_ZH = {
    "top left": ("左上角", "左上方"),
    "top": ("上方", "顶部"),
    "top right": ("右上角", "右上方"),
    "left": ("左边", "左侧"),
    "centre": ("", "", "中央", "中间"),
    "right": ("右边", "右侧"),
    "bottom left": ("左下角", "左下方"),
    "bottom": ("下方", "底部"),
    "bottom right": ("右下角", "右下方"),
}


def _words(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _article(rng: Random, noun: str) -> str:
    if rng.random() < 0.15:
        return noun
    article = "an" if noun[0] in "aeiou" else "a"
    return f"{article} {noun}" if rng.random() < 0.85 else f"the {noun}"


def _object_en(scene: ObjectScene, rng: Random) -> str:
    size = rng.choice(_SIZE_EN[scene.size])
    shape = "love heart" if scene.shape == "heart" and rng.random() < 0.1 else scene.shape
    thing = _article(rng, _words(size, scene.colour, shape))
    place = rng.choice(_PLACE_EN[scene.place])
    ground = _article(rng, f"{scene.background} background")
    comma_place = f", {place}" if place else ""
    patterns = [
        f"{thing} on {ground}{comma_place}",
        f"{thing} on {scene.background}{comma_place}",
        f"{thing}, {scene.background} background{comma_place}",
        f"{thing}{comma_place}, {scene.background} background",
        f"on {ground}, {thing}{comma_place}",
        f"{scene.background} background with {thing}{comma_place}",
    ]
    if place.startswith(("in ", "at ", "on ")):
        patterns += [f"{thing} {place} on {ground}", f"{thing} {place} of {ground}"]
        patterns += [f"{place}, {thing} on {ground}"]
    return rng.choice(("", "", "", "a picture of ", "a drawing of ")) + rng.choice(patterns)


def _object_zh(scene: ObjectScene, rng: Random) -> str:
    size, place = rng.choice(_SIZE_ZH[scene.size]), rng.choice(_PLACE_ZH[scene.place])
    colour, ground = _COLOUR_ZH[scene.colour], _COLOUR_ZH[scene.background]
    shape = rng.choice(_SHAPE_ZH[scene.shape])
    of = rng.choice(("", "的"))
    thing = f"{size}{colour}{of}{shape}"
    counted = rng.choice(("一个", "一个", "")) + thing
    if not place:
        return rng.choice((f"{ground}背景上的{counted}", f"{counted}，{ground}背景"))
    return rng.choice(
        (
            f"{ground}背景上{place}有{counted}",
            f"{counted}，{ground}背景，{place}",
            f"{place}{counted}，{ground}背景",
            f"{counted}在{ground}背景的{place}",
            f"{ground}背景，{counted}在{place}",
        )
    )


_TIME_EN = {
    "day": ("during the day", "in daylight", "under a blue sky", "on a clear day", "by day"),
    "sunset": ("at sunset", "at sunset", "at dusk", "in the evening glow", "at golden hour"),
    "night": ("at night", "by night", "under a night sky", "in the dark night"),
}
_TIME_ZH = {
    "day": ("白天", "蓝天下"),
    "sunset": ("日落时分", "日落", "黄昏", "傍晚", "夕阳下"),
    "night": ("夜晚", "夜空下", "夜里"),
}
_PRAISE_EN = ("", "", "beautiful", "peaceful", "stunning", "lovely", "calm")
_PRAISE_ZH = ("", "", "美丽的", "宁静的", "壮丽的")
_MOUNTAIN_ZH = {
    "blue": "蓝色的山", "green": "绿色的山", "brown": "棕色的山", "grey": "灰色的山",
    "purple": "紫色的山",
}  # fmt: skip
_GROUND_EN = {
    "meadow": ("a green meadow", "green fields", "grass"),
    "wheat": ("wheat fields", "a golden field"),
    "flowers": ("a flower meadow", "flowers"),
}
_GROUND_ZH = {"meadow": ("草地", "绿色的田野"), "wheat": ("麦田",), "flowers": ("花田", "花海")}
_FEATURE_ZH = {
    "mountains": ("山", "群山", "高山"),
    "lake": ("湖", "湖泊", "湖水"),
    "sea": ("大海", "海", "海洋"),
    "sun": ("太阳",),
    "moon": ("月亮", "圆月"),
    "stars": ("星星", "星空", "繁星"),
    "clouds": ("云", "白云", "云朵"),
    "trees": ("树", "树木", "松树", "森林"),
}
_NOUN_ZH = ("风景", "景色", "风光")
_GLUE_ZH = ("背景", "背景上", "一个", "的", "上", "在", "有", "和", "有雪的", "雪山", "雪")


def _mountains_en(scene: Landscape, rng: Random) -> str:
    colour = scene.mountains if rng.random() < 0.6 else ""
    noun = rng.choice(("mountains", "mountains", "hills" if not scene.snow else "peaks"))
    if scene.snow and rng.random() < 0.85:
        patterns = (
            f"{_words('snowy', colour, noun)}",
            f"{_words('snow-capped', colour, noun)}",
            f"{_words(colour, noun)} with snow",
        )
        return rng.choice(patterns)
    return _words(colour, noun)


def _mountains_zh(scene: Landscape, rng: Random) -> str:
    coloured = rng.random() < 0.6
    name = _MOUNTAIN_ZH[scene.mountains] if coloured else rng.choice(_FEATURE_ZH["mountains"])
    if scene.snow and rng.random() < 0.85:
        return rng.choice((f"有雪的{name}", f"{name}和雪")) if coloured else "雪山"
    return name


def _features_en(scene: Landscape, rng: Random) -> list[str]:
    features = []
    if scene.mountains != "none" and rng.random() < 0.9:
        features.append(_mountains_en(scene, rng))
    if scene.water == "lake" and rng.random() < 0.9:
        features.append(rng.choice(("a lake", "a lake", "lakes", "a calm lake", "water")))
    if scene.water == "sea" and rng.random() < 0.9:
        features.append(rng.choice(("the sea", "the sea", "the ocean", "sea")))
    if scene.body and rng.random() < 0.8:
        moon = ("the moon", "a full moon", "a moon")
        sun = ("the sun", "a sun", "sun")
        features.append(rng.choice(moon if scene.time == "night" else sun))
    if scene.stars and rng.random() < 0.8:
        features.append(rng.choice(("stars", "stars", "many stars")))
    if scene.clouds and rng.random() < 0.8:
        features.append(rng.choice(("clouds", "clouds", "white clouds", "some clouds")))
    if scene.trees and rng.random() < 0.85:
        features.append(rng.choice(("trees", "trees", "pine trees", "a forest")))
    if scene.water != "sea" and rng.random() < 0.35:
        features.append(rng.choice(_GROUND_EN[scene.ground]))
    rng.shuffle(features)
    return features


def _joined_en(features: list[str], rng: Random) -> str:
    if len(features) < 2:
        return "".join(features)
    if rng.random() < 0.3:
        return ", ".join(features)
    return ", ".join(features[:-1]) + " and " + features[-1]


def _landscape_en(scene: Landscape, rng: Random) -> str:
    features = _features_en(scene, rng)
    time = rng.choice(_TIME_EN[scene.time])
    if scene.time == "day" and rng.random() < 0.35:
        time = ""
    praise = rng.choice(_PRAISE_EN)
    if scene.time == "sunset" and rng.random() < 0.12:
        sunset = _article(rng, _words(praise, "sunset"))
        over = rng.choice(("over", "with")) if features else ""
        return _words(sunset, over, _joined_en(features, rng))
    kind = rng.choice(("landscape", "landscape", "scene", "view"))
    if scene.mountains != "none" and rng.random() < 0.15:
        kind = "mountain landscape"
    if scene.water == "sea" and rng.random() < 0.1:
        kind = "seascape"
    noun = _article(rng, _words(praise, kind))
    joined = _joined_en(features, rng)
    if not joined:
        return _words(noun, time)
    return rng.choice(
        (
            _words(noun, "with", joined, time),
            _words(noun, time, "with", joined),
            _words(joined, time),
            ", ".join(part for part in (noun, joined, time) if part),
            ", ".join(part for part in (time, joined) if part),
        )
    )


def _features_zh(scene: Landscape, rng: Random) -> list[str]:
    features = []
    if scene.mountains != "none" and rng.random() < 0.9:
        features.append(_mountains_zh(scene, rng))
    if scene.water != "none" and rng.random() < 0.9:
        features.append(rng.choice(_FEATURE_ZH[scene.water]))
    if scene.body and rng.random() < 0.8:
        features.append(rng.choice(_FEATURE_ZH["moon" if scene.time == "night" else "sun"]))
    if scene.stars and rng.random() < 0.8:
        features.append(rng.choice(_FEATURE_ZH["stars"]))
    if scene.clouds and rng.random() < 0.8:
        features.append(rng.choice(_FEATURE_ZH["clouds"]))
    if scene.trees and rng.random() < 0.85:
        features.append(rng.choice(_FEATURE_ZH["trees"]))
    if scene.water != "sea" and rng.random() < 0.35:
        features.append(rng.choice(_GROUND_ZH[scene.ground]))
    rng.shuffle(features)
    return features


def _landscape_zh(scene: Landscape, rng: Random) -> str:
    features = _features_zh(scene, rng)
    time = rng.choice(_TIME_ZH[scene.time])
    if scene.time == "day" and rng.random() < 0.35:
        time = ""
    noun = rng.choice(_PRAISE_ZH) + rng.choice(_NOUN_ZH)
    joined = rng.choice(("和", "、", "，")).join(features)
    if not joined:
        return f"{time}{rng.choice(('', '的'))}{noun}" if time else noun
    of = "的" if time else ""
    return rng.choice(
        (
            f"{time}{of}{joined}",
            f"{time}{of}{noun}，有{joined}",
            f"{noun}，{joined}" + (f"，{time}" if time else ""),
            f"{joined}的{noun}" + (f"，{time}" if time else ""),
        )
    )


def caption(scene: Scene, rng: Random, language: str = "en") -> str:
    """Write one caption; `language` is "en" or "zh"."""
    if isinstance(scene, ObjectScene):
        return (_object_en if language == "en" else _object_zh)(scene, rng)
    text = (_landscape_en if language == "en" else _landscape_zh)(scene, rng)
    return text[0].upper() + text[1:] if rng.random() < 0.3 else text


def chinese_words() -> set[str]:
    """Return the words Chinese captions are made of, for a tokenizer that must split them."""
    tables = (_SIZE_ZH, _PLACE_ZH, _SHAPE_ZH, _TIME_ZH, _GROUND_ZH, _FEATURE_ZH)
    words = {word for table in tables for choices in table.values() for word in choices}
    words |= {
        *_COLOUR_ZH.values(),
        *_MOUNTAIN_ZH.values(),
        *_PRAISE_ZH,
        *_NOUN_ZH,
        *_GLUE_ZH,
        *"，、",
    }
    return words - {""}
