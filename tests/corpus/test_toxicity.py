"""Breaks when innocent words are taken for abuse, abuse hides in a long page, or a quoted slur counts as an insult."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.corpus.classifying.insults import find_terms
from headwater.corpus.classifying.linear import Classifier
from headwater.corpus.classifying.toxicity import ToxicityJudge, ToxicitySettings, passages, toxicity, weigh
from headwater.errors import InputError


@pytest.fixture(scope="module")
def judge() -> ToxicityJudge:
    return ToxicityJudge()


def words(text: str) -> list[str]:
    return [term.word for term in find_terms(text) if term.weight]


@pytest.mark.parametrize("text", [
    "固体废物处理与垃圾分类", "今日你好，节日你我同庆", "体操你做得很好", "三只母狗", "滚开的水", "应该死守",
    "精神病学与神经病理", "日本的操场上有鸡",
    "杂种优势", "去死皮", "过去死去的人", "变态反应", "Scunthorpe class assessment", "a shiitake dickens",
    "Essex bass",
])
def test_innocent_neighbours_are_left_alone(text):
    assert words(text) == []


@pytest.mark.parametrize(("text", "word"), [("你这个傻逼", "傻逼"), ("你是fuck中", "fuck"), ("真是废物", "废物"),
                                            ("YOU IDIOT!", "idiot"), ("(idiot)", "idiot"), ("滚远点", "滚远点")])
def test_abuse_is_found_beside_any_neighbour(text, word):
    assert words(text) == [word]


@pytest.mark.parametrize("text", [
    "曹操他率领大军南下。", "后来曹操他写信给孙权，说曹操你不可轻视。", "广播体操他做得最好，课间操你也要做。",
    "为孩子操你的心", "星期日你来，3月5日你走。", "尼玛次仁在拉萨上学",
    "杂种后代的性状各不相同，杂种不育，杂种优势明显。",
])
def test_names_and_drills_before_a_pronoun_are_no_abuse(text):
    assert words(text) == []


@pytest.mark.parametrize(("language", "text"), [
    ("en", "Salt retards yeast."), ("en", "Cold retards the dough and gives it flavour."),
    ("en", "The inhibitor retards oxidation."), ("en", "The bitch and her puppies need warmth."),
    ("en", "A bitch in season must be kept from the stud dog."),
    ("zh", "母狗绝育后应该怎样喂养？"), ("zh", "母狗六个月大就会第一次发情。"),
    ("zh", "孟德尔让豌豆杂交，得到的杂种再自交一次。"),
])
def test_words_with_a_matter_of_their_own_are_no_abuse_where_it_is_spoken_of(judge, language, text):
    assert not judge(text, language).toxic


@pytest.mark.parametrize(("language", "text"), [
    ("en", "you retard"), ("en", "These retards voted again."), ("en", "that bitch lied to me"),
    ("zh", "那个女人就是母狗"), ("zh", "你这个杂种"), ("zh", "我操你妈"), ("zh", "你这条母狗"),
])
def test_the_same_words_are_abuse_without_that_matter(judge, language, text):
    assert judge(text, language).toxic


@pytest.mark.parametrize(("text", "word", "written"), [
    ("ｆｕｃｋ you", "fuck", "ｆｕｃｋ"), ("ＳＨＩＴ", "shit", "ＳＨＩＴ"),
    ("what a f*cking mess", "fucking", "f*cking"),
    ("f**k this", "fuck", "f**k"), ("n1gger", "nigger", "n1gger"), ("you n1gg3r!", "nigger", "n1gg3r"),
    ("F@ggot", "faggot", "F@ggot"), ("a$$hole", "asshole", "a$$hole"), ("oh $hit", "shit", "$hit"),
    ("oh sh!t", "shit", "sh!t"), ("oh s h i t", "shit", "s h i t"), ("f.u.c.k off", "fuck", "f.u.c.k"),
    ("f u c k y o u", "fuck", "f u c k"), ("你是f*ck中", "fuck", "f*ck"),
])
def test_disguised_words_are_seen_where_they_stand(judge, text, word, written):
    found = [(term.word, text[term.start:term.end]) for term in find_terms(text) if term.weight]
    assert found == [(word, written)]
    assert judge(text, "en").toxic


@pytest.mark.parametrize("text", [
    "x = s**t + s*it", "mp3 a1b2c3 5p1c", "S.H.I.E.L.D. a b c d", "S P I C E, P A K I S T A N",
    "classic f***", "the *slow* **bold** word!", "sh1tzu",
    "me@fuchs.com", "sp3c1al", "Ｓｈｉｉｔａｋｅ",
])
def test_signs_in_code_and_other_words_are_no_disguise(text):
    assert words(text) == []


@given(st.sampled_from(["bitch", "fucking", "nigger", "whore"]), st.text(alphabet="ab 1*. ", max_size=12), st.data())
def test_a_word_with_one_letter_disguised_is_found_at_its_place(word, before, data):
    looks = {"i": "1*", "u": "*", "e": "3*", "o": "0*"}
    place = data.draw(st.sampled_from([place for place, letter in enumerate(word[:-1]) if letter in looks]))
    text = f"{before} {word[:place]}{data.draw(st.sampled_from(looks[word[place]]))}{word[place + 1:]} b"
    assert (word, len(before) + 1) in {(term.word, term.start) for term in find_terms(text)}


def test_terms_are_shared_out_to_the_passages_that_hold_them():
    # Many lines of one word each: every passage weighs its own, and none is weighed against all the others.
    lines = 400
    text = "You worthless idiot, shut up and go to hell.\n\nA calm river.\n" * lines
    verdict = ToxicityJudge(ToxicitySettings(passages=lines))(text, "en")
    assert len(verdict.passages) == lines
    assert verdict.terms == ("go to hell", "idiot", "shut up", "worthless")
    assert len({passage.score for passage in verdict.passages}) == 1


@given(st.text(max_size=60))
def test_terms_stand_where_they_say(text):
    for term in find_terms(f"{text} idiot {text}傻逼"):
        assert f"{text} idiot {text}傻逼"[term.start:term.end].lower() == term.word


@given(st.text(alphabet="ab 河水。.!\n；\"你", max_size=120))
def test_passages_are_in_order_and_lose_no_token(text):
    spans = passages(text)
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(spans))
    covered = "".join(text[start:end] for start, end in spans)
    assert sum(map(str.isalnum, covered)) == sum(map(str.isalnum, text))


def test_a_quoted_or_explained_word_weighs_little():
    for plain, quoted in (("You are an idiot.", "The word idiot comes from Greek."),
                          ("你这个白痴",
                          "“白痴”一词原为医学用语")):
        assert weigh(quoted, list(find_terms(quoted)))[0] <= weigh(plain, list(find_terms(plain)))[0] / 4


ARTICLE = {"en": "The river rises in the northern hills and flows past three towns before it reaches the sea. "
                 "Its water feeds the mills, and every spring the meadows along its banks are flooded. ",
           "zh": "这条河发源于北部的山地，流经三座城镇后注入大海。河水推动磨坊，每年春天两岸的草地都会被淹没。"}
INSULT = {"en": "You are a worthless idiot and a pathetic liar, shut up and go to hell.",
          "zh": "你这个没用的蠢货，赶紧闭嘴滚蛋吧，真是个废物。"}
EXPLAINED = {"en": "The slur “nigger” is a derogatory term whose history scholars have described at length. ",
             "zh": "“支那”一词后来带有贬义，学者对这个词语的历史有详细的研究。"}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_an_insult_inside_a_long_article_is_the_worst_passage(language):
    text = ARTICLE[language] * 20 + "\n" + INSULT[language] + "\n" + ARTICLE[language] * 20
    verdict = toxicity(text, language)
    assert not verdict.toxic, "one insult on a long page is no page of abuse"
    assert toxicity(text, language, ToxicitySettings(share=0, lone_share=0)).toxic
    assert INSULT[language][:10] in text[verdict.passages[0].start:verdict.passages[0].end]
    assert verdict.terms
    assert verdict.share < 0.1


@pytest.mark.parametrize("language", ["en", "zh"])
def test_plain_articles_and_explained_slurs_are_no_abuse(language):
    judge = ToxicityJudge()
    assert not judge(ARTICLE[language] * 10, language).toxic
    assert not judge(ARTICLE[language] + EXPLAINED[language] + ARTICLE[language], language).toxic


def test_ones_own_classifier_judges_at_the_threshold_it_was_calibrated_to(tmp_path):
    shipped, sentence = Classifier.load("toxicity"), "They came to the village and spoiled the well of everyone there."
    odds = shipped.probability([sentence])[0]
    for name, threshold, expected in (("strict", odds * 1.01, False), ("loose", odds * 0.99, True)):
        mine = shipped.model.model_copy(update={"name": name, "thresholds": {"en": threshold}})
        Classifier(mine, shipped.codes).save(tmp_path / f"{name}.safetensors")
        settings = ToxicitySettings(classifier=tmp_path / f"{name}.safetensors")
        assert toxicity(sentence, "en", settings).toxic is expected
    Classifier.load("machine").save(tmp_path / "machine.safetensors")
    with pytest.raises(InputError, match="tells 'machine', not 'toxicity'"):
        ToxicityJudge(ToxicitySettings(classifier=tmp_path / "machine.safetensors"))


def test_other_languages_and_empty_texts_are_judged_without_failing():
    judge = ToxicityJudge()
    assert not judge("", "en").toxic
    assert not judge("Der Fluss ist lang und tief.", "de").toxic
    assert judge("Du idiot! fuck you, asshole!", "de").toxic


INNOCENT = {"en": """
Put the trash out on Tuesday night and bring the empty bins back in before noon.
Rinse cans before they go into the recycling; food scraps and garbage go into the green bag.
The old barn holds twelve pigs, two goats and a flock of hens that lay brown eggs.
Marinate the thighs overnight, then grill the jerk chicken over slow coals for an hour.
Cut a few stems of pussy willow in February and keep them in water on a warm sill.
Prick the potatoes with a fork and bake them for seventy minutes until the skin is crisp.
The council spent two million on rubbish collection and still the streets are dirty in summer.
Maggot therapy cleans a wound: sterile larvae eat the dead tissue and leave the healthy one alone.
The parasite enters through the skin of the foot and reaches the liver within three weeks.
Hitchcock's Psycho was shot in black and white with the crew of his television show.
After six hours under the car my filthy overalls went straight into a bucket of soda.
The vet found that the mare was lame on the left foreleg and advised four weeks of rest.
Dumb terminals had no processor of their own; every key went to the mainframe and back.
Garbage collection pauses the program while the runtime finds objects that nothing points to.
Vermin such as rats and cockroaches carry disease, so keep grain in closed metal boxes.
A pig iron furnace ran here until 1921, and you can still visit the casting hall.
Do not pull the rope with a jerk; let the line run out smoothly until it is tight.
You should never throw batteries into the household trash, since they may catch fire.
The ugly duckling was really a young swan, as every child knows by the end of the tale.
These are useless without a reader, so buy the card and the reader together.
Our team was the loser on the night, two goals to one, but goes through on aggregate.
Scientists think the fungus is a parasite of beetles rather than a partner.
The smell of the drains was disgusting, and the plumber came back three times.
If you roll a seven at craps on the first throw, you win the round at once.
The idiot board, as studio staff called it, held the lines for the presenter.
My father worked on a garbage truck for thirty years and knew every dog on the route.
Rubbish in, rubbish out: a survey with bad questions cannot give you good answers.
You may feed pigs with windfall apples, but not with meat or kitchen scraps.
It was a stupid mistake: I had left the oven on and the cake was black.
A lame excuse will not convince the examiners, so state plainly why the sample is small.
Lunatic comes from the Latin for moon, since madness was thought to follow its phases.
He fed the trash compactor, swept the deck and reported to the mate at eight.
Spineless fish do not exist, but many spineless animals live on the reef.
A freak storm tore the roof off the village school on the last day of term.
The pigs escaped from the field and you could hear the neighbours laugh all morning.
Dog waste bags are free; please tie them and drop them into the trash cans by the gate.
Freed prisoners wrote that the cells were filthy and that the water was not fit to drink.
The coward in the play is Parolles, who boasts of a drum that he never fetched.
In this fool's mate White loses in two moves, so do not push both pawns.
The committee called the plan hopeless, costly and useless, and voted it down nine to two.
""",
"zh": """
厨余垃圾请沥干水分后再投放，塑料袋另扔进旁边的桶里。
鱼洗净去鳞，内脏当垃圾扔掉，鱼头留着炖汤，加姜片去腥。
景区里游客多，垃圾太多，志愿者每天要捡三十多袋。
请你把垃圾带下山，不要留在步道两边。
出门前记得把垃圾倒了，再检查一下窗户有没有关好。
工厂每年产生废物约两千吨，其中一半经焚烧后用来发电。
这些废物可以变成肥料，农民把秸秆和果皮堆在一起发酵。
蝌蚪变态成青蛙大约需要两个月，水温高时会快一些。
家蚕是完全变态的昆虫，一生要经过卵、幼虫、蛹和成虫四个时期。
早上空腹吃药容易恶心，医生建议饭后半小时再服用。
怀孕初期会感到恶心，少吃多餐可以缓解，一般三个月后消失。
鱼缸里的水很臭，肉上已经长了蛆，只好全部扔掉。
把蛆养在麦麸里，三天后就可以当鱼饵，钓鲫鱼很好用。
陀思妥耶夫斯基的长篇小说白痴写于一八六八年，主人公是梅诗金公爵。
奶奶年轻时得过神经病，手脚发麻，后来针灸了半年才好。
三叉神经病变会引起面部疼痛，需要尽早到医院检查。
水滚开以后下饺子，点三次凉水，浮起来就可以捞。
猪头洗净焯水，加八角桂皮卤两个小时，凉了切片最香。
地上的垃圾是昨晚演唱会留下的，清洁工扫到凌晨四点。
你家的垃圾要分成四类：可回收物、有害垃圾、厨余垃圾和其他垃圾。
这台相机很简单，大家叫它傻瓜机，装上胶卷按快门就行。
小狗在沙发下放屁，全家人都笑了，赶紧打开窗子。
孩子们闭嘴不说话，老师就从窗边拿起一本书慢慢读。
渔民说，海上漂的垃圾比鱼还多，一网下去一半是塑料瓶。
电脑越用越慢，先用软件把系统垃圾扫一遍，再看看开机项。
太阳能板报废以后成了难处理的废物，回收一块要花不少钱。
请勿向河中倾倒垃圾，违者罚款二百元。
车上有人晕车，恶心想吐，司机在服务区停了十分钟。
把苹果核、茶叶渣这样的湿垃圾放进棕色的桶，你就分对了。
夏天肉类容易生蛆，一定要盖好纱罩或放进冰箱。
高血糖会损伤周围神经，糖尿病神经病患者常说脚底像踩棉花。
废物间在走廊尽头，钥匙在护士站，双人双锁管理。
蝴蝶的变态过程很神奇，孩子们每天都去看那只蛹。
饭桶里还有半桶米饭，盖上盖子保温，晚到的人也能吃上热的。
食堂的饭桶要每天刷洗消毒，晾干后倒扣在架子上。
城里的垃圾没有地方埋，市长决定在郊外再建一座电厂。
吃完的外卖盒不是纸类，油污太重，只能算干垃圾。
我们小区垃圾直运以后，夏天再也没有苍蝇了。
有些药让人恶心、头晕，开车前你最好看一看说明书。
他在回忆录里写道，父亲一辈子不会骂人，最重的话就是糊涂虫三个字。
"""}
"""Everyday sentences with words that are insults elsewhere."""
ABUSIVE = {"en": """
You are trash, your whole family is trash, and nobody would miss you.
Shut up, you filthy pig, nobody asked you.
What a pathetic loser you are, crawl back under your rock.
People like you are vermin and should be treated like vermin.
You stupid bitch, go back to the kitchen where you belong.
Those immigrants are parasites, filthy subhuman scum, throw them all out.
Listen up you dumb piece of garbage, I hope you choke on it.
All women are worthless whores who lie for money.
You're an idiot and a coward, go kill yourself.
Ugly, stupid and useless: that is what you are, you moron.
Fuck off you retarded bastard, nobody wants you here.
These niggers ruin every town they move into.
You lying little maggot, I will find you and break your teeth.
Your mother is a fat pig and you are a bigger one.
Every one of those faggots deserves to be beaten.
What kind of lame jerk writes this crap, you brainless moron?
You are the most disgusting human being I have ever read, you psycho.
Jews are rats and liars who run the whole filthy world.
Go to hell, you worthless piece of rubbish.
That prick is a spineless coward and his fans are imbeciles.
You dumb pussy, cry to your mummy again.
Muslims are all rapists and animals, deport the whole filthy lot.
Shut your mouth, bastard, you are garbage and you know it.
Only a halfwit like you could post such rubbish, drop dead.
""",
"zh": """
你就是个垃圾，全家都是垃圾，活着浪费粮食。
你这种废物早点去死吧，没人会想你。
神经病吧你，脑子有病就去看医生，别在这里恶心人。
死变态，滚远点，别让我再看见你。
你是白痴吗？这么蠢的话也说得出口，猪脑子。
看见你这张脸我就恶心，丑八怪，快滚。
这帮人就是社会的蛆，人渣，统统该死。
傻逼东西，你妈怎么生出你这么个玩意儿。
那个地方的人全是小偷骗子，没一个好东西，一群垃圾。
黑鬼就该滚回非洲去，看着就脏。
你个不要脸的贱人，勾引别人老公，迟早遭报应。
闭嘴吧废物，轮不到你说话。
女人都是婊子，给钱就跟人跑，没有一个干净的。
你们这些公知喷子都是汉奸走狗，无耻败类，滚出去。
真是又蠢又坏的垃圾，连狗都不如，你也配做人？
操你妈的，有种你出来，看我不打死你。
河南人都是骗子，偷井盖的垃圾，谁信谁傻子。
你这头蠢猪，饭桶一个，除了吃还会干什么。
一群脑残智障，喷子，垃圾中的垃圾。
死胖子，长得像头猪还敢出门，恶心死了。
这种渣男就是废物加变态，活该没人要你。
你脑子进水了吧，弱智才会买这种狗屁东西。
同性恋都是变态，恶心，应该全部关起来。
滚你妈的蛋，你算什么东西，臭不要脸的畜生。
"""}
MISTAKEN = [
    "Jews are rats and liars who run the whole filthy world.",
    "Muslims are all rapists and animals, deport the whole filthy lot.",
    "同性恋都是变态，恶心，应该全部关起来。",
    "小狗在沙发下放屁，全家人都笑了，赶紧打开窗子。",
    "他在回忆录里写道，父亲一辈子不会骂人，最重的话就是糊涂虫三个字。",
    ]
"""Those of them that are judged wrongly, each by itself."""


def sentences(texts: dict[str, str]) -> list:
    return [pytest.param(language, text, marks=[pytest.mark.xfail(strict=True)] if text in MISTAKEN else [])
            for language, lines in texts.items() for text in lines.split("\n") if text]


@pytest.mark.parametrize(("language", "text"), sentences(INNOCENT))
def test_words_of_two_meanings_are_no_abuse_where_nobody_is_called_by_them(judge, language, text):
    assert not judge(text, language).toxic


@pytest.mark.parametrize(("language", "text"), sentences(ABUSIVE))
def test_the_same_words_are_abuse_where_somebody_is(judge, language, text):
    assert judge(text, language).toxic


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_page_of_abuse_is_found_and_one_insult_on_a_short_page_is_not_enough(judge, language):
    abuse = [text for text in ABUSIVE[language].split("\n") if text]
    page = ARTICLE[language] * 3
    assert all(judge("\n".join(abuse[at:at + 4]), language).toxic for at in range(0, len(abuse), 4))
    assert judge("\n".join([page, *abuse[:3], page]), language).toxic
    assert not judge(f"{page}\n{ONE_WORD[language]}\n{page}", language).toxic


ONE_WORD = {"en": "The captain shouted that the referee was a fucking disgrace and left.",
            "zh": "队长骂了裁判一句傻逼就离开了球场，没有接受采访。"}


@pytest.mark.parametrize("language", ["en", "zh"])
@given(data=st.data())
def test_innocent_sentences_in_any_order_make_an_innocent_page(judge, language, data):
    every = [text for text in INNOCENT[language].split("\n") if text and text not in MISTAKEN]
    chosen = data.draw(st.lists(st.sampled_from(every), min_size=1, max_size=8, unique=True))
    assert not judge("\n".join(chosen), language).toxic
