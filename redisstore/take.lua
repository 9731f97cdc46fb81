-- Applies a write to one or more buckets, to all or to none.
--
-- KEYS: of each bucket its hash, the set of its entity's buckets, by when they expire, and, if
--   usage is counted, the usage of its day and the set of the entity's days.
-- ARGV: the id of the write; "1" if it is sent again and must not be applied twice whatever
--   came between; how many keys a bucket has; then of each bucket:
--     the id of the last write that the caller has seen, "" if the bucket is missing
--     how many words follow that a bucket gets whose last write that is: fields and values; -1 if
--       the write does not fit it
--     "1" if the bucket is then to be kept for longer
--     the rows, for a bucket that others have written since, packed as a list of texts:
--       the revision of settings that the caller knows
--       the quarter of an hour by which it is full, and for how many ms that is to be kept
--       the resource, as the set has it
--       then of each row:
--         define, mark, used  the fields; used is "" of a rate, and is there of a quota or session
--         want  what the definition begins with
--         def   the definition of a limit that is new, with a bucket; "" if none can be
--         lo    the mark at which it is full; of a period, the least start of the one that is on
--         hi    the greatest mark from which it fits; of a period, the most that may be used
--         n     what is added
--         set   what the mark is below lo, with n; "" if it cannot be; of a period, its start
--     how many numbers of usage there are
--     the words
--     the usage: field and amount of each and, if usage is counted, for how many ms all is kept
-- Answers 1 if it is applied and 0 if not, and all buckets are as the caller knows them. Otherwise
--   {1, hash…} if it is applied, {0, hash…} if not, {2, hash…} if it was before, and {3, hash…} if
--   that cannot be told; each hash as it was before, or 1 if it is as the caller knows it.

local sub = string.sub
local o = redis.call('HGET', KEYS[1], 'o') or ''
local same = sub(o, 1, 8) == ARGV[4] and ARGV[6] == ''
-- One bucket that is as it was last seen, and no usage: as a rule that is all.
if same and #KEYS == 2 then
  local n = tonumber(ARGV[5])
  if n > 0 then redis.call('HSET', KEYS[1], unpack(ARGV, 9, 8 + n)) end
  return n < 0 and 0 or 1
end

-- count adds n numbers of usage, from an argument on, in the keys from one on.
local function count(day, from, n)
  local new, ends = false, from + 2 * n
  for j = from, ends - 2, 2 do
    local sum = redis.pcall('HINCRBY', KEYS[day], ARGV[j], ARGV[j + 1])
    if type(sum) == 'table' then -- beyond int64: it stays at its end
      local least = string.byte(ARGV[j + 1]) == 45
      redis.call('HSET', KEYS[day], ARGV[j], least and '-9223372036854775808' or '9223372036854775807')
    elseif sum == tonumber(ARGV[j + 1]) then
      new = true
    end
  end
  if new then
    redis.call('PEXPIRE', KEYS[day], ARGV[ends])
    redis.call('ZADD', KEYS[day + 1], 0, sub(KEYS[day], -10))
    redis.call('PEXPIRE', KEYS[day + 1], ARGV[ends])
  end
end

-- One with usage.
if same and #KEYS == 4 and ARGV[3] == '4' then
  local n = tonumber(ARGV[5])
  if n < 0 then return 0 end
  if n > 0 then redis.call('HSET', KEYS[1], unpack(ARGV, 9, 8 + n)) end
  count(3, 9 + n, tonumber(ARGV[8]))
  return 1
end

local id, again, stride = ARGV[1], ARGV[2] == '1', tonumber(ARGV[3])
local find, byte = string.find, string.byte
local fits, known, unsure, unchanged = true, false, false, true

-- less compares whole numbers in decimals: doubles are exact up to 15 digits.
local function less(a, b)
  if #a < 16 and #b < 16 then return tonumber(a) < tonumber(b) end
  local an, bn = byte(a) == 45, byte(b) == 45
  if an ~= bn then return an end
  if an then a, b = b, a end
  if #a ~= #b then return #a < #b end
  return a < b -- digits alone, and as many: the locale does not matter
end

-- Tables are made with room for what they will have: to grow costs more than the rest.
local answer, buckets, p, of = {1}, {false, false}, 4, 0
for k = 1, #KEYS, stride do
  if k > 1 then o = redis.call('HGET', KEYS[k], 'o') or '' end
  local last, words = ARGV[p], tonumber(ARGV[p + 1])
  local b = {
    key = k, new = o == '', at = p + 3, words = words, longer = false, w = false, nw = 0, add = false, na = 0, uses = 0,
    count = tonumber(ARGV[p + 4]),
  }
  local old = 1
  if sub(o, 1, 8) == last then
    if words < 0 then fits = false end
    b.longer = ARGV[p + 2] ~= ''
  else
    unchanged = false
    if find(o, id, 1, true) then known = true end
    if again and not (last ~= '' and find(o, last, 1, true)) then unsure = true end
    old = redis.call('HGETALL', KEYS[k])
    local h, r = {o = false, x = false, s = false, f = false}, cmsgpack.unpack(ARGV[p + 3])
    for i = 1, #old, 2 do h[old[i]] = old[i + 1] end
    if h.s and less(r[1], h.s) then fits = false end
    local w, nw, add, na = {0, 0, 0, 0, 0, 0, 0, 0}, 0, {0, 0, 0, 0}, 0
    for i = 5, #r, 9 do
      local define, mark, used, n, set = r[i], r[i + 1], r[i + 2], r[i + 7], r[i + 8]
      local d, m, want = h[define], h[mark], r[i + 3]
      if not d then
        if o ~= '' or r[i + 4] == '' then
          fits = false
        elseif n ~= '0' then
          w[nw + 1], w[nw + 2], w[nw + 3], w[nw + 4], nw = define, r[i + 4], mark, set, nw + 4
          if used ~= '' then w[nw + 1], w[nw + 2], nw = used, n, nw + 2 end
        end
      elseif sub(d, 1, #want) ~= want then
        fits = false
      elseif used ~= '' then -- what is used is at most 10^15
        local u = h[used]
        if less(m, r[i + 5]) then u = '0' else set = m end
        if less(r[i + 6], u) then
          fits = false
        elseif n ~= '0' then
          w[nw + 1], w[nw + 2], nw = used, string.format('%.0f', tonumber(u) + tonumber(n)), nw + 2
          if set ~= m then w[nw + 1], w[nw + 2], nw = mark, set, nw + 2 end
        end
      elseif less(m, r[i + 5]) then
        if set == '' then
          fits = false
        elseif n ~= '0' then
          w[nw + 1], w[nw + 2], nw = mark, set, nw + 2
        end
      elseif less(r[i + 6], m) then
        fits = false
      elseif n ~= '0' then
        if #m < 16 and #n < 16 then
          w[nw + 1], w[nw + 2], nw = mark, string.format('%.0f', tonumber(m) + tonumber(n)), nw + 2
        else -- beyond what doubles have
          add[na + 1], add[na + 2], na = mark, n, na + 2
        end
      end
    end
    if nw + na > 0 then
      w[nw + 1], w[nw + 2], nw = 'o', id .. sub(o, 1, 24), nw + 2
      if not h.x or less(h.x, r[2]) then
        w[nw + 1], w[nw + 2], nw = 'x', r[2], nw + 2
        b.longer = true
      end
    end
    b.w, b.nw, b.add, b.na = w, nw, add, na
  end
  b.uses = p + 5 + math.max(words, 0)
  p = b.uses + 2 * b.count + (stride == 4 and 1 or 0)
  of = of + 1
  buckets[of], answer[of + 1] = b, old
end

local verdict = known and 2 or unsure and 3 or fits and 1 or 0
answer[1] = verdict
if unchanged then answer = verdict end
if verdict ~= 1 then return answer end

for i = 1, of do
  local b = buckets[i]
  local k = b.key
  if b.w then
    if b.nw > 0 then redis.call('HSET', KEYS[k], unpack(b.w, 1, b.nw)) end
    for j = 1, b.na, 2 do redis.call('HINCRBY', KEYS[k], b.add[j], b.add[j + 1]) end
  elseif b.words > 0 then
    redis.call('HSET', KEYS[k], unpack(ARGV, b.at + 2, b.at + 1 + b.words))
  end
  if b.longer then
    local r = cmsgpack.unpack(ARGV[b.at])
    local minute = redis.call('TIME')[1] / 60
    redis.call('PEXPIRE', KEYS[k], r[3])
    if b.new then -- without those that have expired
      redis.call('ZREMRANGEBYSCORE', KEYS[k + 1], '-inf', string.format('(%.0f', math.floor(minute)))
    end
    redis.call('ZADD', KEYS[k + 1], string.format('%.0f', math.ceil(minute + r[3] / 60000)), r[4])
    redis.call('PEXPIRE', KEYS[k + 1], r[3], 'NX')
    redis.call('PEXPIRE', KEYS[k + 1], r[3], 'GT')
  end
  if b.count > 0 then count(k + 2, b.uses, b.count) end
end
return answer
