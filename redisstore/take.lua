-- Applies the rows of one or more buckets, all or none.
--
-- KEYS: of each bucket its hash, the set of its entity's buckets and, if usage is counted, the
--   usage of its day and the set of the entity's days.
-- ARGV: the id of the write; "1" if it is sent again and must not be applied twice whatever
--   came between; how many keys a bucket has; then of each bucket:
--     the id of the last write that the caller has seen, "" if the bucket is missing
--     the revision of settings that the caller knows
--     the quarter of an hour by which it is full, and for how many ms that is to be kept
--     the resource, as the set has it
--     how many fields, rows and numbers of usage follow
--     the fields that are looked at: o, x, s, and of each row definition, mark and, of a period,
--       what is used
--     the rows, each of seven:
--       kind  "r" or, of a quota or session, "p"
--       want  what the definition begins with
--       def   the definition of a limit that is new, with a bucket; "" if none can be
--       lo    the mark at which it is full; of a period, the least start of the one that is on
--       hi    the greatest mark from which it fits; of a period, the most that may be used
--       n     what is added
--       set   what the mark is below lo, with n; "" if it cannot be; of a period, its start
--     the usage: field and amount of each, and for how many ms all is kept
-- Answers {1, hash…} if it is applied, {0, hash…} if not, {2, hash…} if it was before, and
--   {3, hash…} if that cannot be told; each hash as it was before, or 1 if it is as the caller
--   knows it.

local id, again, stride = ARGV[1], ARGV[2] == '1', tonumber(ARGV[3])
local sub, find, byte = string.sub, string.find, string.byte

-- less compares whole numbers in decimals: doubles are exact up to 15 digits.
local function less(a, b)
  if #a < 16 and #b < 16 then return tonumber(a) < tonumber(b) end
  local an, bn = byte(a) == 45, byte(b) == 45
  if an ~= bn then return an end
  if an then a, b = b, a end
  if #a ~= #b then return #a < #b end
  return a < b -- digits alone, and as many: the locale does not matter
end

local fits, known, unsure = true, false, false
local buckets, p = {}, 4
for k = 1, #KEYS, stride do
  local last, fields, rows, uses = ARGV[p], tonumber(ARGV[p + 5]), tonumber(ARGV[p + 6]), tonumber(ARGV[p + 7])
  local name = p + 8
  local h = redis.call('HMGET', KEYS[k], unpack(ARGV, name, name + fields - 1))
  local o, at = h[1], name + fields
  local b = {p = p, o = o, add = {}}
  if o then
    if find(o, id, 1, true) then known = true end
    if again and not (last ~= '' and find(o, last, 1, true)) then unsure = true end
    if h[3] and tonumber(h[3]) > tonumber(ARGV[p + 1]) then fits = false end
    b.old = sub(o, 1, 12) == last and 1
  else
    if again and last ~= '' then unsure = true end
    b.old = last == '' and 1
  end
  if not b.old then b.old = redis.call('HGETALL', KEYS[k]) end
  local w, nw, f = {}, 0, 4
  for _ = 1, rows do
    local d, m = h[f], h[f + 1]
    local want, lo, hi, n, set = ARGV[at + 1], ARGV[at + 3], ARGV[at + 4], ARGV[at + 5], ARGV[at + 6]
    local period = ARGV[at] == 'p'
    local field = name + f - 1
    if not d then
      if o or ARGV[at + 2] == '' then
        fits = false
      elseif n ~= '0' then
        w[nw + 1], w[nw + 2], w[nw + 3], w[nw + 4], nw = ARGV[field], ARGV[at + 2], ARGV[field + 1], set, nw + 4
        if period then w[nw + 1], w[nw + 2], nw = ARGV[field + 2], n, nw + 2 end
      end
    elseif sub(d, 1, #want) ~= want then
      fits = false
    elseif period then -- what is used is at most 10^15
      local u = h[f + 2]
      if less(m, lo) then u = '0' else set = m end
      if less(hi, u) then
        fits = false
      elseif n ~= '0' then
        if set ~= m then w[nw + 1], w[nw + 2], nw = ARGV[field + 1], set, nw + 2 end
        w[nw + 1], w[nw + 2], nw = ARGV[field + 2], string.format('%.0f', tonumber(u) + tonumber(n)), nw + 2
      end
    elseif less(m, lo) then
      if set == '' then
        fits = false
      elseif n ~= '0' then
        w[nw + 1], w[nw + 2], nw = ARGV[field + 1], set, nw + 2
      end
    elseif less(hi, m) then
      fits = false
    elseif n ~= '0' then
      if #m < 16 and #n < 16 then
        w[nw + 1], w[nw + 2], nw = ARGV[field + 1], string.format('%.0f', tonumber(m) + tonumber(n)), nw + 2
      else -- beyond what doubles have
        b.add[#b.add + 1], b.add[#b.add + 2] = ARGV[field + 1], n
      end
    end
    at, f = at + 7, f + (period and 3 or 2)
  end
  if nw + #b.add > 0 then
    w[nw + 1], w[nw + 2], nw = 'o', id .. (o and sub(o, 1, 36) or ''), nw + 2
    if not h[2] or tonumber(ARGV[p + 2]) > tonumber(h[2]) then
      w[nw + 1], w[nw + 2], nw = 'x', ARGV[p + 2], nw + 2
      b.expires = true
    end
  end
  b.w, b.uses, b.count = w, at, uses
  p = at + 2 * uses + 1
  buckets[#buckets + 1] = b
end

local answer = {known and 2 or unsure and 3 or fits and 1 or 0}
for i = 1, #buckets do answer[i + 1] = buckets[i].old end
if answer[1] ~= 1 then return answer end

for i = 1, #buckets do
  local b, k = buckets[i], stride * (i - 1) + 1
  if #b.w > 0 then redis.call('HSET', KEYS[k], unpack(b.w)) end
  for j = 1, #b.add, 2 do redis.call('HINCRBY', KEYS[k], b.add[j], b.add[j + 1]) end
  if b.expires then
    local ms = ARGV[b.p + 3]
    redis.call('PEXPIRE', KEYS[k], ms)
    if not b.o then redis.call('ZADD', KEYS[k + 1], 0, ARGV[b.p + 4]) end
    redis.call('PEXPIRE', KEYS[k + 1], ms, 'NX')
    redis.call('PEXPIRE', KEYS[k + 1], ms, 'GT')
  end
  local new, ends = false, b.uses + 2 * b.count
  for j = b.uses, ends - 2, 2 do
    local n = redis.pcall('HINCRBY', KEYS[k + 2], ARGV[j], ARGV[j + 1])
    if type(n) == 'table' then -- beyond int64: it stays at its end
      redis.call('HSET', KEYS[k + 2], ARGV[j], byte(ARGV[j + 1]) == 45 and '-9223372036854775808' or '9223372036854775807')
    elseif n == tonumber(ARGV[j + 1]) then
      new = true
    end
  end
  if new then
    redis.call('PEXPIRE', KEYS[k + 2], ARGV[ends])
    redis.call('ZADD', KEYS[k + 3], 0, sub(KEYS[k + 2], -10))
    redis.call('PEXPIRE', KEYS[k + 3], ARGV[ends])
  end
end
return answer
